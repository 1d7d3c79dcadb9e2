//go:build linux

package main

import (
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
	nodeCount   = 3
	podsPerNode = 2
	underlayMTU = 1500
)

// A cluster is three nodes with a daemon each, their pods, and a host that is no node.
type cluster struct {
	topology *topo.Topology
	binaries binaries
	members  []*member
	pods     []*pod // of all members
	stranger *topo.Node
}

// A member is a node with a daemon. The first two run it by a manager, which keeps descriptors as systemd does;
// the third has none, and does takeovers.
type member struct {
	*topo.Node
	c       *cluster
	config  string // path of the configuration file
	socket  string
	manager *topo.Manager // or nil
	daemon  *topo.Process // the latest, where there is no manager
	churn   *topo.Namespace
	pods    []*pod
}

// A pod is a network namespace with an address of its node's block.
type pod struct {
	*topo.Namespace
	name string
	node *member
	addr netip.Addr
}

// newCluster makes nodes and the stranger, and starts nothing. The caller must close it.
func newCluster(b binaries) (*cluster, error) {
	topology, err := topo.New("soak")
	if err != nil {
		return nil, err
	}
	c := &cluster{topology: topology, binaries: b}
	if err := c.build(); err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}

func (c *cluster) build() (err error) {
	for number := 1; number <= nodeCount; number++ {
		if err := c.addMember(number); err != nil {
			return err
		}
	}
	if c.stranger, err = c.topology.Node("stranger"); err != nil {
		return err
	}
	_, err = c.topology.Underlay().Run(context.Background(), c.binaries.weft, "keygen", "--out", c.path("gossip.key"))
	return err
}

func (c *cluster) path(name string) string { return filepath.Join(c.topology.Dir(), name) }

func (c *cluster) addMember(number int) error {
	name := fmt.Sprintf("node%d", number)
	node, err := c.topology.Node(name)
	if err != nil {
		return err
	}
	m := &member{Node: node, c: c, config: c.path(name + ".yaml"), socket: c.path(name + ".sock")}
	c.members = append(c.members, m)
	if m.churn, err = m.Sandbox("churn"); err != nil {
		return err
	}
	if number < nodeCount {
		if m.manager, err = m.Manage(c.binaries.weftd, "--config", m.config); err != nil {
			return err
		}
	}
	return m.configure(settled)
}

// A setting is what `weft reload` can change.
type setting struct {
	mode     string
	clampMSS bool
	logLevel string
}

// settled is what the account needs: everything passes weftd. Immutable.
var settled = setting{mode: "udp", logLevel: "info"}

// configure writes m's file. All are given the address of the first node.
func (m *member) configure(s setting) error {
	data, err := yaml.Marshal(struct {
		NodeName      string   `yaml:"nodeName"`
		Mode          string   `yaml:"mode"`
		ClampMSS      bool     `yaml:"clampMSS"`
		LogLevel      string   `yaml:"logLevel"`
		Bootstrap     bool     `yaml:"bootstrap"`
		Join          []string `yaml:"join"`
		GossipKeyFile string   `yaml:"gossipKeyFile"`
		Socket        string   `yaml:"socket"`
		StateDir      string   `yaml:"stateDir"`
	}{
		NodeName:      m.String(),
		Mode:          s.mode,
		ClampMSS:      s.clampMSS,
		LogLevel:      s.logLevel,
		Bootstrap:     m == m.c.members[0],
		Join:          []string{m.c.members[0].Addr.String()},
		GossipKeyFile: m.c.path("gossip.key"),
		Socket:        m.socket,
		StateDir:      m.c.path(m.String() + ".state"),
	})
	if err != nil {
		return fmt.Errorf("configure %s: %w", m, err)
	}
	return os.WriteFile(m.config, data, 0o600)
}

// start starts all daemons, and makes the pods.
func (c *cluster) start(ctx context.Context, patience time.Duration) error {
	for _, m := range c.members {
		if err := m.start(); err != nil {
			return err
		}
	}
	if err := c.whole(ctx, patience); err != nil {
		return err
	}
	for number, m := range c.members {
		for i := range podsPerNode {
			if err := m.addPod(ctx, fmt.Sprintf("pod%d%c", number+1, 'a'+i)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (m *member) addPod(ctx context.Context, name string) error {
	ns, err := m.Sandbox(name)
	if err != nil {
		return err
	}
	p := &pod{Namespace: ns, name: name, node: m}
	if p.addr, err = m.wire(ctx, name, ns); err != nil {
		return err
	}
	m.pods, m.c.pods = append(m.pods, p), append(m.c.pods, p)
	return nil
}

func (m *member) start(flags ...string) (err error) {
	if m.manager != nil {
		return m.manager.Start()
	}
	m.daemon, err = m.Start(append([]string{m.c.binaries.weftd, "--config", m.config}, flags...)...)
	return err
}

// pid is the daemon's.
func (m *member) pid() int {
	if m.manager != nil {
		return m.manager.PID()
	}
	return m.daemon.PID()
}

// restart is `systemctl restart`, or the same without systemd.
func (m *member) restart() error {
	if m.manager != nil {
		return m.manager.Restart()
	}
	if err := m.daemon.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	if err := m.daemon.Wait(); err != nil {
		return fmt.Errorf("weftd on %s ended: %w", m, err)
	}
	return m.start()
}

// kill is SIGKILL, and a new start at once.
func (m *member) kill() error {
	if m.manager != nil {
		return m.manager.Replace()
	}
	if err := m.daemon.Kill(); err != nil {
		return err
	}
	return m.start()
}

// takeover is an upgrade without systemd. The one before must end well.
func (m *member) takeover(ctx context.Context) error {
	before := m.daemon
	if err := m.start("--takeover"); err != nil {
		return err
	}
	select {
	case <-before.Done():
		return before.Wait()
	case <-m.daemon.Done():
		m.daemon, before = before, m.daemon
		return fmt.Errorf("weftd --takeover on %s ended: %w", m, before.Wait())
	case <-ctx.Done():
		return fmt.Errorf("takeover on %s: %w", m, context.Cause(ctx))
	}
}

// whole waits until every daemon is ready and sees every other.
func (c *cluster) whole(ctx context.Context, patience time.Duration) error {
	return eventually(ctx, patience, func(ctx context.Context) error {
		for _, m := range c.members {
			if err := m.seesAll(ctx); err != nil {
				return err
			}
		}
		return nil
	})
}

// logPaths are those of all daemons there were.
func (c *cluster) logPaths() []string {
	paths, _ := filepath.Glob(c.path("*-weftd-*.log")) // the pattern is right
	for _, m := range c.members {
		if m.manager != nil {
			paths = append(paths, m.manager.LogPath())
		}
	}
	return paths
}

// keepLogs copies the daemons' logs to folder.
func (c *cluster) keepLogs(folder string) error {
	errs := []error{os.MkdirAll(folder, 0o755)}
	for _, path := range c.logPaths() {
		data, err := os.ReadFile(path)
		if err == nil {
			name := strings.ReplaceAll(strings.TrimPrefix(path, c.topology.Dir()+"/"), "/", "-")
			err = os.WriteFile(filepath.Join(folder, "soak-"+strings.TrimSuffix(name, ".log")+".log"), data, 0o644)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// close removes everything.
func (c *cluster) close() error {
	var errs []error
	for _, m := range c.members {
		if m.manager != nil {
			errs = append(errs, m.manager.Close())
		}
	}
	return errors.Join(append(errs, c.topology.Close())...)
}
