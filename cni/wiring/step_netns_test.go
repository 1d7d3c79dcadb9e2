//go:build netns

package wiring

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"
)

// What fails or dies at any step leaves nothing, or what Detach removes.
func TestEveryStep(t *testing.T) {
	bothWirings(t, func(t *testing.T, bridge string) {
		n := newNode(t)
		other := n.pod(bridge) // the tables stay, and the bridge, which has a carrier all the time
		must(t, reach(n.namespace, other.listen(other.Addresses[1].Addr()), 100))
		p, pod := n.port(bridge)
		before := n.dump() + pod.dump()
		unchanged := func(after string) {
			t.Helper()
			diff := ""
			for end := time.Now().Add(patience); time.Now().Before(end); { // the bridge's carrier goes later
				if diff = difference(before, n.dump()+pod.dump()); diff == "" {
					return
				}
			}
			t.Errorf("%s there is a difference:\n%s", after, diff)
		}
		var steps []string
		n.Inject(func(name string) error {
			steps = append(steps, name)
			return nil
		})
		_, err := n.Attach(p)
		must(t, err)
		attaching := len(steps)
		must(t, n.Detach(p.Device))
		unchanged("after Detach")
		if attaching < 9 || len(steps) < attaching+2 {
			t.Fatalf("the steps are %q", steps)
		}
		refused := errors.New("refused")
		for i, step := range steps[:attaching] {
			n.Inject(func(name string) error {
				if name == step {
					return refused
				}
				return nil
			})
			if _, err := n.Attach(p); !errors.Is(err, refused) {
				t.Errorf("Attach that fails at %q: %v", step, err)
			}
			unchanged("after a failure at " + step)
			n.killed(t, "attach", p, step)
			n.Inject(func(string) error { return nil })
			must(t, n.Detach(p.Device))
			unchanged(fmt.Sprintf("after a death at %q (%d), and Detach,", step, i))
		}
		for _, step := range steps[attaching:] {
			_, err := n.Attach(p)
			must(t, err)
			n.killed(t, "detach", p, step)
			must(t, n.Detach(p.Device))
			unchanged(fmt.Sprintf("after a death at %q, and Detach,", step))
		}
	})
}

// killed has another process attach or detach p, which dies before a step.
func (n *node) killed(t *testing.T, verb string, p Port, step string) {
	t.Helper()
	cmd := exec.Command("nsenter", append([]string{"--net=" + n.path, "--"}, dying(verb, p, step)...)...)
	cmd.Env = append(os.Environ(), "WEFT_WIRING_DIES=1")
	out, err := cmd.CombinedOutput()
	if err == nil || cmd.ProcessState.ExitCode() >= 0 {
		t.Fatalf("the process that was to be killed at %q ended: %v: %s", step, err, out)
	}
}

// dying are the arguments of that process.
func dying(verb string, p Port, step string) []string {
	args := []string{os.Args[0], "-test.run=^TestDie$", "--", p.Device, p.Netns, p.Bridge, step, verb}
	for _, a := range p.Addresses {
		args = append(args, a.String())
	}
	return args
}

// TestDie is the process that is killed.
func TestDie(t *testing.T) {
	if os.Getenv("WEFT_WIRING_DIES") == "" {
		t.Skip("not a test by itself")
	}
	args := os.Args[slices.Index(os.Args, "--")+1:]
	w, err := Open()
	must(t, err)
	w.Inject(func(name string) error {
		if name == args[3] {
			self, err := os.FindProcess(os.Getpid())
			must(t, errors.Join(err, self.Kill()))
			select {}
		}
		return nil
	})
	p := Port{Device: args[0], Owner: "weft pod test", Netns: args[1], Interface: "eth0", MTU: 1400, Bridge: args[2]}
	for _, a := range args[5:] {
		p.Addresses = append(p.Addresses, netip.MustParsePrefix(a))
	}
	if args[4] == "detach" {
		must(t, w.Detach(p.Device))
	} else {
		_, err = w.Attach(p)
		must(t, err)
	}
}
