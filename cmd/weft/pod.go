package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/weft-net/weft/cmd/internal/node"
	"github.com/weft-net/weft/cni"
	"github.com/weft-net/weft/cni/ipam"
	"github.com/weft-net/weft/cni/sandbox"
	"github.com/weft-net/weft/cni/wiring"
)

const (
	// podNetwork is the network, in the sense of the CNI, of the pods that weft makes itself, so that a runtime's garbage
	// collection leaves them alone.
	podNetwork   = "weft-pod"
	podInterface = "eth0"
	// podPrefix begins the names of their namespaces, by which others' are told apart from them.
	podPrefix = "weft-"
)

// Pod is a pod that weft made.
type Pod struct {
	Name      string       `json:"name"`
	Netns     string       `json:"netns"`     // path
	Addresses []netip.Addr `json:"addresses"` // none where it is only half made
	Device    string       `json:"device"`    // the node's end
	MTU       int          `json:"mtu"`       // bytes
	Since     time.Time    `json:"since,omitzero"`
	Broken    string       `json:"broken,omitempty"` // what of it is missing, one line
}

func (c *cli) podCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "pod",
		Short: "Make pods without any container runtime",
		Long: `Make pods without any container runtime: network namespaces that are wired as
pods are, with an address of this node's block. They are there until they are
deleted, or the machine restarts.`,
		Example: `  sudo weft pod add web
  sudo weft pod exec web -- python3 -m http.server
  weft pod list
  sudo weft pod del web`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("unknown command %q; see `%s --help`", "pod "+args[0], cmd.CommandPath())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	dataDir := cmd.PersistentFlags().String("data-dir", cni.DefaultDataDir, "`directory` of the records of attachments")
	open := func() *podMaker { return &podMaker{cli: c, store: ipam.Open(*dataDir)} }
	cmd.AddCommand(c.podAddCommand(open), c.podDelCommand(open), c.podListCommand(open), c.podExecCommand(open))
	return cmd
}

func (c *cli) podAddCommand(open func() *podMaker) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "add name",
		Short: "Make a pod",
		Example: `  sudo weft pod add web
  sudo weft pod add web --ip 10.244.1.7
  sudo weft pod add vm1 --netns /proc/4711/ns/net
  sudo weft pod add web --json | jq -r '.addresses[]'`,
		Args: onePod,
	}
	wanted := cmd.Flags().StringSlice("ip", nil, "`address` that it shall have, of this node's block; one of a family")
	netns := cmd.Flags().String("netns", "", "`path` of a network namespace that is there, in place of a new one")
	bridge := cmd.Flags().String("bridge", "", "make it a port of this bridge, in place of a route of its own")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var addresses []netip.Addr
		for _, text := range *wanted {
			a, err := netip.ParseAddr(text)
			if err != nil {
				return usagef("--ip %q is no address: give one such as 10.244.1.7", text)
			}
			addresses = append(addresses, a.Unmap())
		}
		p := open()
		pod, err := p.add(cmd.Context(), args[0], *netns, addresses, *bridge)
		if err != nil {
			return err
		}
		if c.json {
			return c.printJSON(pod)
		}
		fmt.Fprintf(c.out, "pod %s has %s; run something in it: %s\n", c.style.paint(bold, pod.Name), list(pod.Addresses, ", "),
			c.style.paint(bold, "weft pod exec "+pod.Name+" -- COMMAND"))
		return nil
	}
	return cmd
}

func (c *cli) podDelCommand(open func() *podMaker) *cobra.Command {
	return &cobra.Command{
		Use:     "del name",
		Short:   "Delete a pod, whether weftd runs or not",
		Long:    "Delete a pod, whether weftd runs or not. Programs that still run in it have no network from then on.",
		Example: "  sudo weft pod del web",
		Args:    onePod,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := open().del(cmd.Context(), args[0]); err != nil {
				return err
			}
			if !c.json {
				fmt.Fprintf(c.out, "pod %s is deleted\n", args[0])
			}
			return nil
		},
	}
}

func (c *cli) podListCommand(open func() *podMaker) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the pods that weft made",
		Example: `  weft pod list
  weft pod list --json | jq -r '.pods[] | .name + " " + .addresses[0]'`,
		Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			all, err := open().list()
			if err != nil {
				return err
			}
			if c.json {
				return c.printJSON(map[string][]Pod{"pods": all})
			}
			renderPods(c.out, c.style, all, c.now())
			return nil
		},
	}
}

func (c *cli) podExecCommand(open func() *podMaker) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "exec name -- command [argument ...]",
		Short: "Run a command in a pod's network",
		Long: `Run a command in a pod's network, with this machine's files and users. weft
becomes the command: its exit status and its signals are the command's own.`,
		Example: `  sudo weft pod exec web -- ip addr
  sudo weft pod exec web -- ping -c 3 10.244.2.1`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 || len(commandBehind(args)) == 0 {
				return usagef("weft pod exec takes a pod and a command, for instance `weft pod exec web -- ip addr`")
			}
			return checkPodName(args[0])
		},
		RunE: func(_ *cobra.Command, args []string) error { return open().exec(args[0], commandBehind(args)) },
	}
	cmd.Flags().SetInterspersed(false) // flags behind the pod are the command's
	return cmd
}

// commandBehind is what follows the pod, with "--" or without.
func commandBehind(args []string) []string {
	command := args[1:]
	if len(command) > 0 && command[0] == "--" {
		command = command[1:]
	}
	return command
}

func onePod(cmd *cobra.Command, args []string) error {
	if len(args) != 1 {
		return usagef("%s takes the name of one pod, but got %d", cmd.CommandPath(), len(args))
	}
	return checkPodName(args[0])
}

// Immutable.
var podName = regexp.MustCompile(`^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$`)

func checkPodName(name string) error {
	if !podName.MatchString(name) {
		return usagef("%q is no name for a pod: up to 40 small letters, digits and dashes, a letter first", name)
	}
	return nil
}

// podMaker is what the commands share.
type podMaker struct {
	cli   *cli
	store *ipam.Store
}

func podKey(name string) ipam.Key {
	return ipam.Key{Container: podPrefix + name, Interface: podInterface}
}

// network calls use with the network, and the kernel open.
func (p *podMaker) network(bridge string, use func(*cni.Network) error) error {
	kernel, err := wiring.Open()
	if err != nil {
		return err
	}
	defer kernel.Close()
	n := cni.Network{Name: podNetwork, Wiring: cni.Routed, Store: p.store, Kernel: kernel, Daemon: node.New(p.cli.socket)}
	if bridge != "" {
		n.Wiring, n.Bridge = cni.Bridge, bridge
	}
	return use(&n)
}

// add makes the namespace first, where it is given none: one that is left when it is killed has the pod's name, by which
// del finds it.
func (p *podMaker) add(ctx context.Context, name, netns string, wanted []netip.Addr, bridge string) (pod Pod, err error) {
	k := podKey(name)
	if _, found, _ := p.store.Get(k); found || sandbox.Exists(k.Container) {
		return Pod{}, fmt.Errorf("there is a pod %s already: see `weft pod list`, or delete it with `weft pod del %[1]s`", name)
	}
	err = p.network(bridge, func(n *cni.Network) error {
		if err := n.Ready(ctx); err != nil {
			return err
		}
		undo := func() error { return nil }
		if netns == "" {
			if err := sandbox.Create(k.Container); err != nil {
				return err
			}
			netns, undo = sandbox.Path(k.Container), func() error { return sandbox.Delete(k.Container) }
		}
		c := cni.Container{ID: k.Container, Netns: netns, Interface: k.Interface, Wanted: wanted}
		if _, err := n.Attach(ctx, c); err != nil {
			return errors.Join(err, undo())
		}
		a, found, err := p.store.Get(k)
		if err != nil || !found {
			return errors.Join(fmt.Errorf("read the record of pod %s again", name), err)
		}
		pod = podOf(a)
		return nil
	})
	return pod, err
}

// del removes whatever there is of the pod, but for a namespace that was there before it.
func (p *podMaker) del(ctx context.Context, name string) error {
	k := podKey(name)
	_, found, _ := p.store.Get(k) // a damaged record goes as well
	if !found && !sandbox.Exists(k.Container) {
		return fmt.Errorf("there is no pod %s: `weft pod list` shows them all", name)
	}
	return p.network("", func(n *cni.Network) error {
		if err := n.Detach(ctx, k.Container, k.Interface); err != nil {
			return err
		}
		return sandbox.Delete(k.Container)
	})
}

// list is all pods, sorted by name, those that are half made or half gone as well.
func (p *podMaker) list() ([]Pod, error) {
	attachments, damaged, err := p.store.List()
	if err != nil {
		return nil, err
	}
	all := []Pod{}
	for _, a := range attachments {
		if a.Network == podNetwork {
			all = append(all, podOf(a))
		}
	}
	for _, d := range damaged {
		if name, ours := strings.CutPrefix(d.Key.Container, podPrefix); ours {
			all = append(all, Pod{Name: name, Netns: sandbox.Path(d.Key.Container), Addresses: d.Addresses, Broken: d.Err.Error()})
		}
	}
	slices.SortFunc(all, func(a, b Pod) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

func podOf(a ipam.Attachment) Pod {
	pod := Pod{
		Name: strings.TrimPrefix(a.Container, podPrefix), Netns: a.Netns,
		Addresses: a.Addresses, Device: a.Device, MTU: a.MTU, Since: a.Since,
	}
	if isStale(a) {
		pod.Broken = "its namespace is gone, as after a restart of the machine: delete it"
	}
	return pod
}

func renderPods(w io.Writer, st style, all []Pod, now time.Time) {
	if len(all) == 0 {
		fmt.Fprintln(w, "There are no pods. `weft pod add NAME` makes one.")
		return
	}
	rows := [][]cell{headings("NAME", "ADDRESSES", "DEVICE", ">MTU", ">AGE", "STATE")}
	for _, p := range all {
		state, age := painted("ok", green), text("")
		if p.Broken != "" {
			state = painted(p.Broken, red)
		}
		if !p.Since.IsZero() {
			age = cell{text: span(now.Sub(p.Since)), right: true}
		}
		rows = append(rows, []cell{text(p.Name), text(list(p.Addresses, ", ")), text(p.Device), mtu(p.MTU), age, state})
	}
	writeTable(w, st, "", rows)
}

// exec returns only where it fails.
func (p *podMaker) exec(name string, command []string) error {
	k := podKey(name)
	a, found, err := p.store.Get(k)
	if err != nil {
		return err
	}
	if !found {
		return fmt.Errorf("there is no pod %s: `weft pod list` shows them all", name)
	}
	program, err := exec.LookPath(command[0])
	if err != nil {
		return fmt.Errorf("run a command in pod %s: %w", name, err)
	}
	return sandbox.Exec(a.Netns, program, command, p.cli.environ)
}
