//go:build netns || partition

package main

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weft-net/weft/bench/topo"
	"github.com/weft-net/weft/cmd/internal/control"
)

// The binaries under test, made by `make build`.
const weftdBinary = "../../bin/weftd"

// patience bounds every wait for the cluster to come to a state.
const patience = 20 * time.Second

// cluster is a topology of nodes that run the daemon.
type cluster struct {
	*topo.Topology
	t       *testing.T
	keyFile string
	members []*member
}

// member is a node with a daemon, number i from 1: block 10.244.i.0/24.
type member struct {
	*topo.Node
	c      *cluster
	number int
	daemon *topo.Process
	client *control.Client
	config string // path
	socket string // of the control API
}

// newCluster makes count nodes and starts nothing yet.
func newCluster(t *testing.T, count int) *cluster {
	t.Helper()
	top, err := topo.New("test")
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{Topology: top, t: t, keyFile: filepath.Join(top.Dir(), "gossip.key")}
	t.Cleanup(func() {
		if t.Failed() {
			c.logs()
		}
		if err := top.Close(); err != nil {
			t.Error(err)
		}
	})
	key := base64.StdEncoding.EncodeToString([]byte("0123456789abcdef0123456789abcdef"))
	if err := os.WriteFile(c.keyFile, []byte(key+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for i := 1; i <= count; i++ {
		c.add(i)
	}
	return c
}

func (c *cluster) add(number int) *member {
	c.t.Helper()
	node, err := c.Node(fmt.Sprintf("n%d", number))
	if err != nil {
		c.t.Fatal(err)
	}
	return c.addMember(node, number)
}

func (c *cluster) addMember(node *topo.Node, number int) *member {
	c.t.Helper()
	name := node.String()
	socket := filepath.Join(c.Dir(), name+".sock")
	m := &member{Node: node, c: c, number: number, client: control.NewClient(socket), config: filepath.Join(c.Dir(), name+".yaml"), socket: socket}
	c.t.Cleanup(m.client.Close)
	m.configure(map[string]string{
		"nodeName":      name,
		"mode":          "udp",
		"podNetwork":    "10.244.0.0/16",
		"podCIDR":       fmt.Sprintf("10.244.%d.0/24", number),
		"join":          "[198.51.100.1]",
		"gossipKeyFile": c.keyFile,
		"socket":        socket,
		"stateDir":      filepath.Join(c.Dir(), name+".state"),
		"logLevel":      "debug",
	})
	c.members = append(c.members, m)
	return m
}

// configure writes m's configuration file.
func (m *member) configure(keys map[string]string) {
	m.c.t.Helper()
	var b strings.Builder
	for k, v := range keys {
		fmt.Fprintf(&b, "%s: %s\n", k, v)
	}
	if err := os.WriteFile(m.config, []byte(b.String()), 0o600); err != nil {
		m.c.t.Fatal(err)
	}
}

func (m *member) start(flags ...string) {
	m.c.t.Helper()
	m.startBy(nil, flags...)
}

// startBy starts the daemon by another program, which wrap is the beginning of.
func (m *member) startBy(wrap []string, flags ...string) {
	m.c.t.Helper()
	args := append(slices.Clone(wrap), weftdBinary, "--config", m.config)
	p, err := m.Start(append(args, flags...)...)
	if err != nil {
		m.c.t.Fatal(err)
	}
	m.daemon = p
}

// stop ends the daemon as systemd does, and expects that it ends well.
func (m *member) stop() {
	m.c.t.Helper()
	if err := m.daemon.Signal(syscall.SIGTERM); err != nil {
		m.c.t.Fatal(err)
	}
	if err := m.daemon.Wait(); err != nil {
		m.c.t.Errorf("%s ended: %v", m, err)
	}
}

// startAll starts every daemon and waits until packets go from each to each.
func (c *cluster) startAll() {
	c.t.Helper()
	for _, m := range c.members {
		m.start()
	}
	c.carries()
}

// carries waits until every member sees every other up, and its answers on the way that it takes at best: a
// node that has just begun may owe its first ones, which makes its peers try another way for a while.
func (c *cluster) carries() {
	c.t.Helper()
	c.converged()
	for _, m := range c.members {
		c.eventually(fmt.Sprintf("%s to reach the others", m), func(ctx context.Context) error {
			peers, err := m.client.Peers(ctx)
			for _, p := range peers.Peers {
				if p.DataPath != control.DataWorks || strings.Contains(p.Why, "does not work") {
					return fmt.Errorf("%s by %q, which %s: %s", p.Name, p.Mode, p.DataPath, p.Why)
				}
			}
			return err
		})
	}
}

// converged waits until every member sees every other up.
func (c *cluster) converged() {
	c.t.Helper()
	for _, m := range c.members {
		for _, other := range c.members {
			if m != other {
				m.waitFor(other, control.PeerUp)
			}
		}
	}
}

// waitFor waits until m sees other in the given state.
func (m *member) waitFor(other *member, state string) {
	m.c.t.Helper()
	m.c.eventually(fmt.Sprintf("%s to see %s %s", m, other, state), func(ctx context.Context) error {
		peers, err := m.client.Peers(ctx)
		if err != nil {
			return err
		}
		for _, p := range peers.Peers {
			if p.Name == other.String() {
				if p.State == state && (state != control.PeerUp || p.Why != "") { // else no way is chosen yet
					return nil
				}
				return fmt.Errorf("it is %s %s", p.State, p.Reason)
			}
		}
		return fmt.Errorf("not among %d peers", len(peers.Peers))
	})
}

// eventually calls ready until it returns nil.
func (c *cluster) eventually(what string, ready func(context.Context) error) {
	c.t.Helper()
	c.within(patience, what, ready)
}

func (c *cluster) within(limit time.Duration, what string, ready func(context.Context) error) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	look := time.NewTicker(50 * time.Millisecond)
	defer look.Stop()
	var last error // not the one that says that time is up
	for {
		err := ready(ctx)
		if err == nil {
			return
		}
		if ctx.Err() == nil || last == nil {
			last = err
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			c.t.Fatalf("waited %s for %s: %v", limit, what, last)
		}
	}
}

// pod adds pod number host of this member, with the overlay's MTU.
func (m *member) pod(host byte) *topo.Pod {
	m.c.t.Helper()
	p, err := m.Pod(fmt.Sprintf("p%d", host), netip.AddrFrom4([4]byte{10, 244, byte(m.number), host}))
	if err != nil {
		m.c.t.Fatal(err)
	}
	status, err := m.client.Status(context.Background())
	if err != nil {
		m.c.t.Fatal(err)
	}
	if err := p.SetMTU(status.Tun.MTU); err != nil {
		m.c.t.Fatal(err)
	}
	return p
}

// logs prints the end of every daemon's log.
func (c *cluster) logs() {
	for _, m := range c.members {
		if m.daemon == nil {
			continue
		}
		log, err := m.daemon.Log()
		if err != nil {
			c.t.Log(err)
		}
		const last = 3000
		c.t.Logf("log of %s:\n%s", m, log[max(0, len(log)-last):])
	}
}
