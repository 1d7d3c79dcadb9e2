//go:build linux

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/weft-net/weft/bench/topo"
)

const (
	topologyPrefix = "demo"
	podNetwork     = "10.244.0.0/16"
	nodeCount      = 3
	podsPerNode    = 2
)

// A cluster is the three nodes with their daemons and pods.
type cluster struct {
	topology   *topo.Topology
	binaries   binaries
	detach     bool // daemons outlive the demo
	members    []*member
	pods       []*pod // of all members
	responders responders
}

// A member is a node with a daemon.
type member struct {
	*topo.Node
	cidr   netip.Prefix // its block, once it has one
	config string       // path of the configuration file
	socket string
	pods   string        // folder of the records of its pods
	daemon *topo.Process // the latest
	down   bool          // on purpose
}

// A pod answers the questions of the matrix.
type pod struct {
	*topo.Namespace
	name string
	addr netip.Addr
}

// newCluster returns an empty cluster, which the caller must close.
func newCluster(b binaries, detach bool) (*cluster, error) {
	topology, err := topo.New(topologyPrefix)
	if err != nil {
		return nil, err
	}
	return &cluster{topology: topology, binaries: b, detach: detach}, nil
}

// build adds the nodes and writes the configuration. No daemon runs yet.
func (c *cluster) build(ctx context.Context) error {
	for number := 1; number <= nodeCount; number++ {
		if err := c.addMember(number); err != nil {
			return err
		}
	}
	if _, err := c.topology.Underlay().Run(ctx, c.binaries.weft, "keygen", "--out", c.keyFile()); err != nil {
		return fmt.Errorf("make the gossip key: %w", err)
	}
	return nil
}

func (c *cluster) keyFile() string { return filepath.Join(c.topology.Dir(), "gossip.key") }

// addMember adds node NUMBER.
func (c *cluster) addMember(number int) error {
	name := fmt.Sprintf("node%d", number)
	node, err := c.topology.Node(name)
	if err != nil {
		return err
	}
	m := &member{
		Node:   node,
		config: filepath.Join(c.topology.Dir(), name+".yaml"),
		socket: filepath.Join(c.topology.Dir(), name+".sock"),
		pods:   filepath.Join(c.topology.Dir(), name+".pods"),
	}
	c.members = append(c.members, m)
	return c.writeConfig(m, "udp")
}

// addPods has weft make the pods podNUMBERa, ... of every node, in namespaces that the topology removes.
func (c *cluster) addPods(ctx context.Context) (err error) {
	for number, m := range c.members {
		for i := range podsPerNode {
			p := &pod{name: fmt.Sprintf("pod%d%c", number+1, 'a'+i)}
			if p.Namespace, err = m.Sandbox(p.name); err != nil {
				return err
			}
			if p.addr, err = c.wire(ctx, m, p); err != nil {
				return err
			}
			if err := c.responders.add(p); err != nil {
				return err
			}
			c.pods = append(c.pods, p)
		}
	}
	return nil
}

// writeConfig gives every daemon the address of the first node, and the first node nothing.
func (c *cluster) writeConfig(m *member, mode string) error {
	join := []string{}
	if seed := c.members[0]; m != seed {
		join = append(join, seed.Addr.String())
	}
	data, err := yaml.Marshal(struct {
		NodeName      string   `yaml:"nodeName"`
		Mode          string   `yaml:"mode"`
		PodNetwork    string   `yaml:"podNetwork"`
		Bootstrap     bool     `yaml:"bootstrap"`
		Join          []string `yaml:"join"`
		GossipKeyFile string   `yaml:"gossipKeyFile"`
		Socket        string   `yaml:"socket"`
		StateDir      string   `yaml:"stateDir"`
		LogLevel      string   `yaml:"logLevel"`
	}{
		NodeName:      m.String(),
		Mode:          mode,
		PodNetwork:    podNetwork,
		Bootstrap:     m == c.members[0],
		Join:          join,
		GossipKeyFile: c.keyFile(),
		Socket:        m.socket,
		StateDir:      filepath.Join(c.topology.Dir(), m.String()+".state"),
		LogLevel:      "info",
	})
	if err != nil {
		return fmt.Errorf("configure %s: %w", m, err)
	}
	return os.WriteFile(m.config, data, 0o600)
}

// start starts the member's daemon.
func (c *cluster) start(m *member) (err error) {
	start := m.Start
	if c.detach {
		start = m.StartDetached
	}
	m.daemon, err = start(c.binaries.weftd, "--config", m.config)
	m.down = err != nil
	return err
}

// restart stops the member's daemon as systemd would, starts it with another mode, and
// waits until it is back among the others.
func (c *cluster) restart(ctx context.Context, m *member, mode string) error {
	m.down = true
	if err := m.daemon.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	if err := m.daemon.Wait(); err != nil {
		return fmt.Errorf("stop weftd on %s: %w", m, err)
	}
	if err := c.writeConfig(m, mode); err != nil {
		return err
	}
	if err := c.start(m); err != nil {
		return err
	}
	return c.waitUntil(ctx, 20*time.Second, c.meshed)
}

// kill kills the member's daemon with SIGKILL.
func (c *cluster) kill(m *member) error {
	m.down = true
	return m.daemon.Kill()
}

// others returns the members but m.
func (c *cluster) others(m *member) []*member {
	var others []*member
	for _, other := range c.members {
		if other != m {
			others = append(others, other)
		}
	}
	return others
}

// waitUntil waits for ready, and gives up when a daemon has ended.
func (c *cluster) waitUntil(ctx context.Context, patience time.Duration, ready func(context.Context) error) error {
	return topo.WaitUntil(ctx, patience, ready, c.daemonEnded)
}

// daemonEnded returns an error if a daemon has ended that was not meant to.
func (c *cluster) daemonEnded() error {
	for _, m := range c.members {
		if m.daemon == nil || m.down {
			continue
		}
		select {
		case <-m.daemon.Done():
			return fmt.Errorf("weftd on %s has ended: %w", m, cmp.Or(m.daemon.Wait(), errExitedWell))
		default:
		}
	}
	return nil
}

var errExitedWell = errors.New("exit status 0")

// close removes everything, unless the topology was kept.
func (c *cluster) close() error { return errors.Join(c.responders.close(), c.topology.Close()) }

// printLogs shows the end of every daemon's log.
func (c *cluster) printLogs(s *screen) {
	const last = 15
	for _, m := range c.members {
		if m.daemon == nil {
			continue
		}
		log, err := m.daemon.Log()
		if err != nil {
			log = err.Error()
		}
		if log == "" {
			log = "(it is empty)"
		}
		lines := strings.Split(strings.TrimSpace(log), "\n")
		s.printf("The log of weftd on %s ends with:\n", m)
		for _, line := range lines[max(0, len(lines)-last):] {
			s.printf("  %s\n", line)
		}
	}
}

// printLookAround tells how to use what Keep has left running.
func (c *cluster) printLookAround(s *screen) {
	m, p, far := c.members[0], c.pods[0], c.pods[len(c.pods)-1]
	s.printf("\nEverything is left running. Look around:\n")
	s.printf("  %s --socket %s peers --watch\n", c.binaries.weft, m.socket)
	s.printf("  nsenter --net=%s ip route\n", m.Path())
	s.printf("  %s pod list --data-dir %s\n", c.binaries.weft, m.pods)
	s.printf("  nsenter --net=%s ping %s\n", p.Path(), far.addr)
	s.printf("  tail -F %s\n", filepath.Join(c.topology.Dir(), "*weftd*.log"))
	s.printf("Take it down:\n  make demo-down\n")
}
