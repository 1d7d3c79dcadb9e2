//go:build netns

package cni

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/google/go-cmp/cmp"

	"github.com/weft-net/weft/bench/topo"
	"github.com/weft-net/weft/cni/ipam"
	"github.com/weft-net/weft/cni/wiring"
)

// dieAt makes the test program a CNI plugin, which kills itself before the step of this number; 0 is never.
const dieAt = "WEFT_TEST_DIE_AT"

func TestMain(m *testing.M) {
	if at, given := os.LookupEnv(dieAt); given {
		actAsPlugin(at)
		return
	}
	os.Exit(m.Run())
}

func actAsPlugin(at string) {
	last, err := strconv.Atoi(at)
	if err != nil {
		panic(err)
	}
	n := 0
	step := func(string) error {
		if n++; n == last {
			return syscall.Kill(os.Getpid(), syscall.SIGKILL)
		}
		return nil
	}
	blocks := []netip.Prefix{netip.MustParsePrefix("10.244.1.0/24"), netip.MustParsePrefix("fd00:244:1::/64")}
	p := plugin{
		out:    os.Stdout,
		daemon: func(string) Daemon { return fakeDaemon{node: Node{Ready: true, MTU: 1420, Blocks: blocks}} },
		store: func(dir string) Store {
			s := ipam.Open(dir)
			s.Inject(step)
			return s
		},
		kernel: func() (Kernel, func(), error) {
			w, err := wiring.Open()
			if err != nil {
				return nil, nil, err
			}
			w.Inject(step)
			return w, w.Close, nil
		},
	}
	skel.PluginMainFuncs(p.funcs(), Versions(), "")
}

// site is a node and a sandbox for one pod, in namespaces of the test's.
type site struct {
	t          *testing.T
	ctx        context.Context
	node, pod  *topo.Node
	dir        string
	wiring     string
	executable string
}

func newSite(t *testing.T, wiring string) *site {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	t.Cleanup(cancel)
	topology, err := topo.New("cni")
	must(t, err)
	t.Cleanup(func() { must(t, topology.Close()) })
	s := &site{t: t, ctx: ctx, dir: filepath.Join(t.TempDir(), "attachments"), wiring: wiring}
	s.node, err = topology.Node("node")
	must(t, err)
	s.pod, err = topology.Node("pod")
	must(t, err)
	// The sandbox has an interface by which to see that nothing else changes, and no default route.
	_, err = s.pod.Run(ctx, "ip", "route", "del", "default")
	must(t, err)
	s.executable, err = os.Executable()
	must(t, err)
	return s
}

// try runs the plugin in the node's namespace, and returns its output, killed where it died by SIGKILL.
func (s *site) try(command, netns string, at int, extra string) (out []byte, code uint, killed bool) {
	s.t.Helper()
	c := s.node.Command(s.ctx, s.executable)
	c.Env = append(os.Environ(), dieAt+"="+strconv.Itoa(at), "CNI_COMMAND="+command, "CNI_CONTAINERID=a", "CNI_IFNAME=net1", "CNI_NETNS="+netns, "CNI_PATH=/opt/cni/bin")
	c.Stdin = strings.NewReader(fmt.Sprintf(`{"cniVersion":"1.1.0","name":"weft","type":"weft-cni","wiring":%q,"dataDir":%q,"cni.dev/valid-attachments":[]%s}`, s.wiring, s.dir, extra))
	var stdout, stderr bytes.Buffer
	c.Stdout, c.Stderr = &stdout, &stderr
	err := c.Run()
	if err == nil {
		return stdout.Bytes(), 0, false
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL {
		return nil, 0, true
	}
	var answer struct {
		Code uint `json:"code"`
	}
	if json.Unmarshal(stdout.Bytes(), &answer) != nil || answer.Code == 0 {
		s.t.Fatalf("%s: %v: %s%s", command, err, stdout.Bytes(), stderr.Bytes())
	}
	return stdout.Bytes(), answer.Code, false
}

func (s *site) do(command, extra string) []byte {
	s.t.Helper()
	out, code, killed := s.try(command, s.pod.Path(), 0, extra)
	if code != 0 || killed {
		s.t.Fatalf("%s: %s", command, out)
	}
	return out
}

// carrier is what a bridge says of its ports, some time after they have gone. Immutable.
var carrier = strings.NewReplacer("NO-CARRIER,", "", ",LOWER_UP", "", "state UP", "", "state DOWN", "", " linkdown", "")

// state is all that the kernel and the store have: of links, addresses, routes, neighbours, rules and records.
func (s *site) state() map[string]string {
	s.t.Helper()
	state := make(map[string]string)
	for _, ns := range []*topo.Node{s.node, s.pod} {
		for _, command := range []string{"ip -o link", "ip -o addr", "ip route show table all", "ip -6 route show table all", "ip neigh show nud permanent", "nft list ruleset"} {
			out, err := ns.Run(s.ctx, strings.Fields(command)...)
			must(s.t, err)
			state[ns.String()+": "+command] = carrier.Replace(out)
		}
	}
	records, err := filepath.Glob(filepath.Join(s.dir, "*:*"))
	must(s.t, err)
	draft, err := filepath.Glob(filepath.Join(s.dir, "draft*"))
	must(s.t, err)
	state["files"] = strings.Join(append(records, draft...), " ")
	return state
}

func (s *site) unchanged(before map[string]string, when string) {
	s.t.Helper()
	if diff := cmp.Diff(before, s.state()); diff != "" {
		s.t.Fatalf("%s has left (-before +after):\n%s", when, diff)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestKilledAtEveryStep kills ADD, and then DEL, before each of its steps in turn. Whatever that leaves, the next DEL or
// GC removes.
func TestKilledAtEveryStep(t *testing.T) {
	for _, wiring := range []string{Routed, Bridge} {
		t.Run(wiring, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, wiring)
			s.do("ADD", "") // makes what stays: the bridge, and the store's directory
			s.do("DEL", "")
			before := s.state()
			for _, killed := range []string{"ADD", "DEL"} {
				for _, next := range []string{"DEL", "GC"} {
					if n := s.killEach(before, killed, next); n < 3 {
						t.Errorf("%s had %d steps", killed, n)
					}
				}
			}
		})
	}
}

// killEach returns the number of steps.
func (s *site) killEach(before map[string]string, command, next string) int {
	s.t.Helper()
	for at := 1; at < 100; at++ {
		if command == "DEL" {
			s.do("ADD", "")
		}
		out, code, killed := s.try(command, s.pod.Path(), at, "")
		if code != 0 {
			s.t.Fatalf("%s to be killed before step %d: %s", command, at, out)
		}
		s.do(next, "")
		s.unchanged(before, fmt.Sprintf("%s after a kill of %s before step %d", next, command, at))
		if !killed {
			return at - 1
		}
	}
	s.t.Fatalf("%s has no end", command)
	return 0
}

// TestPlugin goes through a pod's life: what the result says is there, CHECK sees what breaks, and nothing stays.
func TestPlugin(t *testing.T) {
	for _, wiring := range []string{Routed, Bridge} {
		t.Run(wiring, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, wiring)
			s.do("ADD", "")
			s.do("DEL", "")
			before := s.state()
			out := s.do("ADD", "")
			s.compare(out)
			added := s.state()
			if _, code, _ := s.try("ADD", s.pod.Path(), 0, ""); code != 100 {
				t.Errorf("a duplicate ADD: code %d, want 100", code)
			}
			s.unchanged(added, "a duplicate ADD")
			prev := `,"prevResult":` + string(out)
			s.do("CHECK", prev)
			_, err := s.pod.Run(s.ctx, "ip", "link", "set", "net1", "mtu", "1500")
			must(t, err)
			if out, code, _ := s.try("CHECK", s.pod.Path(), 0, prev); code != 104 || !strings.Contains(string(out), "1500") {
				t.Errorf("CHECK of too large an MTU: code %d, %s", code, out)
			}
			s.do("DEL", "")
			s.unchanged(before, "DEL")
			s.do("DEL", "")
			s.do("GC", "")
			s.unchanged(before, "GC")
		})
	}
}

// compare sees that the result's interfaces are there, with their MACs, and that the pod reaches its gateways.
func (s *site) compare(out []byte) {
	s.t.Helper()
	var r types100.Result
	must(s.t, json.Unmarshal(out, &r))
	for _, i := range r.Interfaces {
		ns := s.node
		if i.Sandbox != "" {
			ns = s.pod
		}
		shown, err := ns.Run(s.ctx, "ip", "link", "show", "dev", i.Name)
		must(s.t, err)
		if !strings.Contains(shown, "link/ether "+i.Mac) || !strings.Contains(shown, "mtu 1420") || !strings.Contains(shown, ",UP") {
			s.t.Errorf("%+v is %s", i, shown)
		}
	}
	for _, ip := range r.IPs {
		shown, err := s.pod.Run(s.ctx, "ip", "addr", "show", "dev", "net1", "to", ip.Address.String())
		must(s.t, err)
		if !strings.Contains(shown, ip.Address.String()) || r.Interfaces[*ip.Interface].Name != "net1" {
			s.t.Errorf("%v is %q", ip, shown)
		}
	}
}

// TestNoSandbox: whatever CNI_NETNS names that is no pod's namespace, the code is that of a bad variable, and nothing is changed.
func TestNoSandbox(t *testing.T) {
	s := newSite(t, Routed)
	fifo := filepath.Join(t.TempDir(), "fifo")
	must(t, syscall.Mkfifo(fifo, 0o600))
	before := s.state()
	for _, path := range []string{"/proc/self/ns/net", s.node.Path(), "/proc/self/ns/mnt", "/dev/null", "/etc/passwd", "/no/such", fifo, t.TempDir(), "net:[4026531840]"} {
		out, code, _ := s.try("ADD", path, 0, "")
		if code != 4 || !strings.Contains(string(out), "CNI_NETNS") {
			t.Errorf("%s: code %d, want 4: %s", path, code, out)
		}
		s.unchanged(before, path)
		s.try("DEL", path, 0, "")
		s.unchanged(before, path)
	}
}
