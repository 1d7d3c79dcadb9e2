package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/weft-net/weft/cmd/internal/config"
	"github.com/weft-net/weft/cmd/internal/control"
	"github.com/weft-net/weft/cni/ipam"
	"github.com/weft-net/weft/cni/wiring"
	"github.com/weft-net/weft/dataplane/firewall"
	"github.com/weft-net/weft/dataplane/host"
)

// lockPatience is how long other processes may hold the store of attachments.
const lockPatience = 10 * time.Second

// uninstallCommand takes the configuration when it runs.
func uninstallCommand(load func() (*config.Config, error)) *cobra.Command {
	u := &uninstall{}
	cmd := &cobra.Command{
		Use: "uninstall", Short: "remove what weftd leaves on this machine", Args: usageArgs,
		Long: "Removes what weftd leaves on this machine: what container runtimes were told and given,\n" +
			"and interfaces, routes, rules and the firewall table of a weftd that was killed. weftd\n" +
			"must have ended; it is configured as it was then. Forwarding stays on (sysctl), and the\n" +
			"programs themselves stay.\n" +
			"\n" +
			"While pods are attached it removes nothing. With --force it takes their network from them,\n" +
			"and the plugin from their runtime, which cannot remove these pods after that: it tries in\n" +
			"vain until this node has weft and its configuration again, whose plugin then finds nothing\n" +
			"left to do. So have the runtime remove the pods first, wherever it still can.",
		Example: "  weft leave && weftd uninstall\n" +
			"  weftd uninstall --purge --config /etc/weft/weft.yaml",
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if u.config, err = load(); err != nil {
				return err
			}
			u.out = cmd.OutOrStdout()
			return u.run(cmd.Context())
		},
	}
	cmd.Flags().BoolVar(&u.force, "force", false, "take the network from pods that are still attached")
	cmd.Flags().BoolVar(&u.purge, "purge", false, "remove the state directory too: this node's identity, its blocks and its certificate")
	return cmd
}

// uninstall is one removal of all that weftd leaves.
type uninstall struct {
	config       *config.Config
	out          io.Writer
	force, purge bool

	held    []func() error // what release undoes
	removed bool           // something, so far
}

// run is done in an order by which nothing comes back: runtimes are told first, and the
// plugin goes when no pod needs it any more. After an error it can be done again.
func (u *uninstall) run(ctx context.Context) (err error) {
	if os.Geteuid() != 0 {
		return errors.New("only root can remove what weftd leaves: run `sudo weft uninstall`")
	}
	defer func() { err = errors.Join(err, u.release()) }()
	if err := u.holdState(); err != nil {
		return err
	}
	links, err := wiring.Open()
	if err != nil {
		return err
	}
	defer links.Close()
	pods, err := u.attached(links)
	if err != nil {
		return err
	}
	if len(pods) > 0 && !u.force {
		return refuse(pods)
	}
	if err := u.holdSocket(); err != nil {
		return err
	}
	if err := u.kernel(); err != nil {
		return err
	}
	errs := []error{u.conflist()}
	for i := range pods {
		errs = append(errs, u.detach(ctx, links, &pods[i]))
	}
	bridges, err := links.RemoveBridges()
	for _, name := range bridges {
		u.say("bridge %s", name)
	}
	if err := errors.Join(append(errs, err)...); err != nil {
		return err // plugin and records are needed to try again
	}
	err = errors.Join(u.plugin(), u.purgeState())
	if !u.removed && err == nil {
		fmt.Fprintln(u.out, "there is nothing to remove")
	}
	return err
}

func (u *uninstall) say(format string, args ...any) {
	u.removed = true
	fmt.Fprintf(u.out, "removed "+format+"\n", args...)
}

// endWeftd is what to do about what only one can hold.
const endWeftd = "weftd must end first, by `weft leave` or `systemctl stop weftd`: %w"

// holdState keeps a weftd from running that is this node.
func (u *uninstall) holdState() error {
	if !there(u.config.StateDir) {
		return nil
	}
	unlock, err := lockDir(u.config.StateDir)
	if err != nil {
		return fmt.Errorf(endWeftd, err)
	}
	u.held = append(u.held, unlock)
	return nil
}

// holdSocket keeps any weftd from running. A socket that a killed one left goes by that.
func (u *uninstall) holdSocket() error {
	if !there(filepath.Dir(u.config.Socket)) {
		return nil
	}
	stale := there(u.config.Socket)
	l, err := control.Listen(u.config.Socket)
	if err != nil {
		return fmt.Errorf(endWeftd, err)
	}
	u.held = append(u.held, l.Close)
	if stale {
		u.say("%s", u.config.Socket)
	}
	return nil
}

func (u *uninstall) release() error {
	var errs []error
	for _, undo := range slices.Backward(u.held) {
		errs = append(errs, undo())
	}
	return errors.Join(errs...)
}

func there(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func (u *uninstall) store() *ipam.Store {
	return ipam.Open(filepath.Join(u.config.StateDir, attachmentsDir))
}

// pod is something that is still attached, as far as it is known.
type pod struct {
	key    ipam.Key // zero where there is no record
	device string   // host end
	name   string   // for people
}

// attached are the pods on record, and what the kernel has besides.
func (u *uninstall) attached(links *wiring.Wiring) ([]pod, error) {
	records, damaged, err := u.store().List()
	if err != nil {
		return nil, err
	}
	devices, err := links.Devices()
	if err != nil {
		return nil, err
	}
	var pods []pod
	for i := range records {
		a := &records[i]
		name := fmt.Sprintf("container %s with %s on %s", a.Container, a.Interface, a.Device)
		if a.Pod != "" {
			name = fmt.Sprintf("pod %s with %s on %s", a.Pod, a.Interface, a.Device)
		}
		pods = append(pods, pod{key: a.Key(), device: a.Device, name: fmt.Sprintf("%s, which has %s", name, list(a))})
	}
	for _, d := range damaged {
		pods = append(pods, pod{key: d.Key, device: wiring.Device(d.Key.Container, d.Key.Interface), name: fmt.Sprintf("container %s with %s, whose record is damaged", d.Key.Container, d.Key.Interface)})
	}
	for _, d := range devices {
		if !slices.ContainsFunc(pods, func(p pod) bool { return p.device == d }) {
			pods = append(pods, pod{device: d, name: fmt.Sprintf("a pod on %s, of which there is no record", d)})
		}
	}
	return pods, nil
}

func list(a *ipam.Attachment) string {
	var addresses []string
	for _, address := range a.Addresses {
		addresses = append(addresses, address.String())
	}
	return strings.Join(addresses, " and ")
}

// refuse names the pods, one to a line.
func refuse(pods []pod) error {
	var errs []error
	for _, p := range pods {
		errs = append(errs, errors.New("still attached: "+p.name))
	}
	return errors.Join(append(errs, errors.New("nothing was removed: have their runtimes remove the pods first, or take the network from them by --force"))...)
}

// kernel removes what a weftd that was killed has left. It touches nothing where one runs.
func (u *uninstall) kernel() (err error) {
	h, err := host.Open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	if err := h.Remove(); err != nil {
		return err
	}
	f, err := firewall.Open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := f.Remove(); err != nil {
		return err
	}
	fmt.Fprintln(u.out, "the kernel has no interface, route, rule or firewall table of weftd's")
	return nil
}

func (u *uninstall) conflist() error {
	c := conflist{record: filepath.Join(u.config.StateDir, conflistRecord)}
	if u.config.CNIConfDir != "" {
		dir, err := filepath.Abs(u.config.CNIConfDir)
		if err != nil {
			return fmt.Errorf("cniConfDir (%s): %w", u.config.Source("cniConfDir"), err)
		}
		c.dir = dir
	}
	removed, err := c.withdraw()
	for _, path := range removed {
		u.say("%s", path)
	}
	return err
}

// detach ends with the record, so that it can be done again after an error.
func (u *uninstall) detach(ctx context.Context, links *wiring.Wiring, p *pod) error {
	if err := links.Detach(p.device); err != nil {
		return err
	}
	if p.key != (ipam.Key{}) {
		ctx, cancel := context.WithTimeout(ctx, lockPatience)
		defer cancel()
		if err := u.store().Remove(ctx, p.key); err != nil {
			return err
		}
	}
	u.say("the network of %s", p.name)
	return nil
}

// plugin removes weftd's copy, but not what it was copied from.
func (u *uninstall) plugin() error {
	if u.config.CNIBinDir == "" {
		return nil
	}
	path := filepath.Join(u.config.CNIBinDir, pluginName)
	source, err := ownPlugin()
	if err != nil {
		return err
	}
	if same(path, source) {
		return nil
	}
	removed, err := removeFile(path)
	if err != nil {
		return fmt.Errorf("remove the CNI plugin: %w", err)
	}
	if removed {
		u.say("%s", path)
	}
	return nil
}

func same(a, b string) bool {
	one, err := os.Stat(a)
	if err != nil {
		return false
	}
	other, err := os.Stat(b)
	return err == nil && os.SameFile(one, other)
}
