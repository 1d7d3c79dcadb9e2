//go:build netns

// Package e2e tests the CNI plugin as it is used: with weftd, and with programs that others have written, on nodes that
// are network namespaces.
package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-net/weft/bench/topo"
)

const (
	// patience bounds every wait for a state, and every command.
	patience = 30 * time.Second

	network      = "weft" // its name in the configuration that weftd writes
	conflistName = "10-weft.conflist"
	bridge       = "cni0"

	gossipKey = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\n"
)

// What is found among other things by these is a pod's. Immutable.
var (
	podDevice  = regexp.MustCompile(`\bweft[0-9a-f]{11}\b`)
	podAddress = regexp.MustCompile(`\b(10\.244\.\d+\.\d+|fd00:10:244:\d+::[0-9a-f:]+)/(32|128)\b`)
)

// node is a host with weftd and everything that CNI needs, in folders of its own.
type node struct {
	*topo.Node
	t      *testing.T
	top    *topo.Topology
	number int // the node's blocks are 10.244.NUMBER.0/24 and fd00:10:244:NUMBER::/64
	weftd  *topo.Process
}

func newTopology(t *testing.T) *topo.Topology {
	t.Helper()
	top, err := topo.New("cni")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := top.Close(); err != nil {
			t.Error(err)
		}
	})
	return top
}

// newNode adds a node of that number, with the plugins of a folder beside weft-cni, and waits until runtimes are told of
// the network.
func newNode(t *testing.T, top *topo.Topology, number int, plugins, wiring string) *node {
	t.Helper()
	n := newHost(t, top, number, plugins)
	keyFile := filepath.Join(top.Dir(), "gossip.key")
	config := fmt.Sprintf(`nodeName: n%[1]d
podNetwork: 10.244.0.0/16,fd00:10:244::/48
podCIDR: 10.244.%[1]d.0/24,fd00:10:244:%[1]d::/64
join: [198.51.100.1]
gossipKeyFile: %[7]s
socket: %[2]s
stateDir: %[3]s
cniConfDir: %[4]s
cniBinDir: %[5]s
cniWiring: %[6]s
`, number, n.socket(), n.path("state"), n.confDir(), n.binDir(), wiring, keyFile)
	err := errors.Join(os.WriteFile(n.path("yaml"), []byte(config), 0o600), os.WriteFile(keyFile, []byte(gossipKey), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	n.startWeftd()
	n.eventually("weftd to tell runtimes of its network", func(context.Context) error {
		_, err := os.Stat(filepath.Join(n.confDir(), conflistName))
		return err
	})
	return n
}

// newHost adds a node of that number without weftd, with the plugins of a folder.
func newHost(t *testing.T, top *topo.Topology, number int, plugins string) *node {
	t.Helper()
	host, err := top.Node(fmt.Sprintf("n%d", number))
	if err != nil {
		t.Fatal(err)
	}
	n := &node{Node: host, t: t, top: top, number: number}
	for _, dir := range []string{n.binDir(), n.confDir(), n.libDir()} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range chained {
		if err := os.Symlink(filepath.Join(plugins, name), filepath.Join(n.binDir(), name)); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

func (n *node) path(kind string) string { return filepath.Join(n.top.Dir(), n.String()+"."+kind) }
func (n *node) socket() string          { return n.path("sock") }
func (n *node) confDir() string         { return n.path("conf") }
func (n *node) binDir() string          { return n.path("bin") }
func (n *node) libDir() string          { return n.path("lib") } // is /var/lib to cnitool and runtimes
func (n *node) dataDir() string         { return filepath.Join(n.path("state"), "attachments") }

func (n *node) startWeftd() {
	n.t.Helper()
	p, err := n.Start(filepath.Join(binaries, "weftd"), "--config", n.path("yaml"))
	if err != nil {
		n.t.Fatal(err)
	}
	n.weftd = p
	n.t.Cleanup(func() {
		if log, err := p.Log(); n.t.Failed() && err == nil {
			n.t.Logf("log of %s's weftd:\n%s", n, log[max(0, len(log)-3000):])
		}
	})
	n.eventually("weftd to be ready", func(ctx context.Context) error {
		out, err := n.Run(ctx, filepath.Join(binaries, "weft"), "status", "--json", "--socket", n.socket())
		if err != nil {
			return err
		}
		var status struct{ State, Reason string }
		if err := json.Unmarshal([]byte(out), &status); err != nil {
			return err
		}
		if status.State != "ready" {
			return errors.New(status.State + ": " + status.Reason)
		}
		return nil
	})
}

func (n *node) stopWeftd() {
	n.t.Helper()
	if err := errors.Join(n.weftd.Signal(syscall.SIGTERM), n.weftd.Wait()); err != nil {
		n.t.Fatal(err)
	}
}

// run runs a command on the node.
func (n *node) run(args ...string) string {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	out, err := n.Run(ctx, args...)
	if err != nil {
		n.t.Fatal(err)
	}
	return out
}

// eventually calls ready until it returns nil.
func (n *node) eventually(what string, ready func(context.Context) error) {
	n.t.Helper()
	err := topo.WaitUntil(context.Background(), patience, ready, func() error { return nil })
	if err != nil {
		n.t.Fatalf("%s: waited for %s: %v", n, what, err)
	}
}

// fetch gets the page that shows the node's address as the server sees it.
func (n *node) fetch(ctx context.Context, server netip.AddrPort) (shown netip.Addr, err error) {
	err = n.Do(func() error {
		conn, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "tcp", server.String())
		if err != nil {
			return err
		}
		defer conn.Close()
		if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
			return err
		}
		if _, err := io.WriteString(conn, pageRequest); err != nil {
			return err
		}
		response, err := io.ReadAll(conn)
		if err != nil {
			return err
		}
		shown, err = shownAddr(string(response))
		return err
	})
	return shown, err
}

// has says whether the node's blocks contain the address.
func (n *node) has(a netip.Addr) bool {
	b := a.As16()
	if a.Is4() {
		return b[12] == 10 && b[13] == 244 && int(b[14]) == n.number
	}
	return netip.MustParsePrefix(fmt.Sprintf("fd00:10:244:%d::/64", n.number)).Contains(a)
}

// leftovers lists what pods have on the node: links, routes, guards, records, and what libcni remembers of them.
func (n *node) leftovers() []string {
	n.t.Helper()
	var all []string
	keep := func(what, text string, is func(line string) bool) {
		for line := range strings.Lines(text) {
			if is(line) {
				all = append(all, what+" "+strings.TrimSpace(line))
			}
		}
	}
	ofPod := func(line string) bool { return podDevice.MatchString(line) }
	keep("link", n.run("ip", "-o", "link"), ofPod)
	keep("route", n.run("ip", "route", "show", "table", "all"), ofPod)
	keep("route", n.run("ip", "-6", "route", "show", "table", "all"), ofPod)
	keep("neighbour", n.run("ip", "neigh"), ofPod)
	keep("guard", n.run("nft", "list", "ruleset"), ofPod)
	for _, save := range []string{"iptables-save", "ip6tables-save"} { // portmap's and firewall's
		keep(save, n.run(save), podAddress.MatchString)
	}
	for _, dir := range []string{n.dataDir(), filepath.Join(n.libDir(), "cni", "results")} {
		files, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			n.t.Fatal(err)
		}
		for _, f := range files {
			record := dir != n.dataDir() || strings.Contains(f.Name(), ":") // else it is the lock, or a hint
			if record && !strings.HasPrefix(f.Name(), "cni-loopback-") {    // a network of containerd's own
				all = append(all, "file "+filepath.Join(dir, f.Name()))
			}
		}
	}
	return all
}

// nothingLeft waits until no pod has anything on the node.
func (n *node) nothingLeft() {
	n.t.Helper()
	n.eventually("nothing to be left of pods", func(context.Context) error {
		if left := n.leftovers(); len(left) > 0 {
			return fmt.Errorf("%d are:\n%s", len(left), strings.Join(left, "\n"))
		}
		return nil
	})
}

// loseKernelState leaves the node as a reboot does, once no pod's namespace is left: with its files.
func (n *node) loseKernelState() {
	n.t.Helper()
	if err := n.weftd.Kill(); err != nil {
		n.t.Fatal(err)
	}
	n.eventually("the pods' links to vanish with their namespaces", func(context.Context) error {
		if links := n.run("ip", "-o", "link"); podDevice.MatchString(links) {
			return errors.New(links)
		}
		return nil
	})
	if _, err := n.Handle().LinkByName(bridge); err == nil {
		n.run("ip", "link", "delete", bridge)
	}
	n.run("nft", "flush", "ruleset")
}

// state is everything in the node's kernel that pods come and go in.
func (n *node) state() string {
	n.t.Helper()
	var b strings.Builder
	for _, command := range []string{"ip -o link", "ip -o addr", "ip rule", "ip -6 rule", "ip route show table all", "ip -6 route show table all", "nft -s list ruleset", "tc qdisc"} {
		fmt.Fprintf(&b, "== %s\n%s", command, n.run(strings.Fields(command)...))
	}
	return b.String()
}

// unchangedSince expects that state is what it was.
func (n *node) unchangedSince(before string) {
	n.t.Helper()
	n.eventually("the node to be as it was", func(context.Context) error {
		if diff := cmp.Diff(strings.Split(before, "\n"), strings.Split(n.state(), "\n")); diff != "" {
			return errors.New(diff)
		}
		return nil
	})
}
