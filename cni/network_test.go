package cni

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/skel"

	"github.com/weft-net/weft/cni/ipam"
	"github.com/weft-net/weft/cni/wiring"
)

func keyOf(container string) ipam.Key { return ipam.Key{Container: container, Interface: "eth0"} }

func TestDuplicateAdd(t *testing.T) {
	b := newBed(t)
	b.want(b.call("ADD", "a", ""), 0)
	before, _, err := b.store.Get(keyOf("a"))
	if err != nil {
		t.Fatal(err)
	}
	b.want(b.call("ADD", "a", `"wiring":"bridge"`), 100)
	after, _, err := b.store.Get(keyOf("a"))
	if err != nil || fmt.Sprint(before) != fmt.Sprint(after) || b.kernel.ports[before.Device].Bridge != "" {
		t.Errorf("the record was %v, and is %v (%v)", before, after, err)
	}
	b.daemon = fakeDaemon{err: errors.New("weftd is not running")}
	b.want(b.call("ADD", "a", ""), 100) // not 11: another try would not help
	b.daemon = newBed(t).daemon
	// With the record lost, what is there is still not another's to undo.
	if err := b.store.Remove(t.Context(), keyOf("a")); err != nil {
		t.Fatal(err)
	}
	b.want(b.call("ADD", "a", ""), 100)
	if len(b.kernel.ports) != 1 || len(b.held()) != 0 {
		t.Errorf("links %v, records %v; want the first link, and no record", b.kernel.ports, b.held())
	}
}

// TestAddAfterReboot: a record whose namespace is gone, and its link with that, is in nobody's way.
func TestAddAfterReboot(t *testing.T) {
	b := newBed(t)
	b.want(b.call("ADD", "a", ""), 0)
	before := b.held()
	clear(b.kernel.ports)
	b.want(b.call("ADD", "a", ""), 0)
	if after := b.held(); len(after) != len(before) || len(b.kernel.ports) != 1 {
		t.Errorf("after %v there are %v, and the links %v", before, after, b.kernel.ports)
	}

	there := ipam.Attachment{Network: "weft", Container: "b", Interface: "eth0", Netns: "/proc/self/ns/net", Device: wiring.Device("b", "eth0"), MTU: 1420}
	if _, err := b.store.Add(t.Context(), there, ipam.Request{Blocks: b.daemon.node.Blocks}); err != nil {
		t.Fatal(err)
	}
	b.want(b.call("ADD", "b", ""), 100)
}

// TestAddWithoutNamespace: without a namespace for the pod no address is spent.
func TestAddWithoutNamespace(t *testing.T) {
	b := newBed(t)
	b.want(b.callArgs("ADD", &skel.CmdArgs{ContainerID: "a", Netns: "/run/netns/gone", IfName: "eth0"}, ""), 4)
	if _, err := os.Stat(b.dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the store is no longer as it was: %v", err)
	}
}

// TestSecondDefaultRoute: the container keeps the one it has, and CHECK asks for no other.
func TestSecondDefaultRoute(t *testing.T) {
	b := newBed(t)
	b.kernel.elsewhere = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}
	b.want(b.call("ADD", "a", ""), 0)
	result := decodeJSON(t, b.out.Bytes()).(map[string]any)
	if got, want := fmt.Sprint(result["routes"]), "[map[dst:::/0 gw:fe80::1]]"; got != want {
		t.Errorf("routes %s, want %s", got, want)
	}
	b.want(b.call("CHECK", "a", `"prevResult":`+b.out.String()), 0)
}

// TestNeighboursOfABridge go with their pod.
func TestNeighboursOfABridge(t *testing.T) {
	for _, end := range []string{"DEL", "GC"} {
		b := newBed(t)
		b.want(b.call("ADD", "a", `"wiring":"bridge","bridge":"br7"`), 0)
		kept := netip.MustParseAddr("10.244.1.200")
		b.kernel.learned = map[netip.Addr]string{kept: "br7"}
		for _, a := range b.kernel.ports[wiring.Device("a", "eth0")].Addresses {
			b.kernel.learned[a.Addr()] = "br7"
		}
		b.want(b.call(end, "a", ""), 0)
		if len(b.kernel.learned) != 1 || b.kernel.learned[kept] == "" {
			t.Errorf("after %s the node knows of %v", end, b.kernel.learned)
		}
	}
}

func TestDel(t *testing.T) {
	b := newBed(t)
	b.daemon = fakeDaemon{err: errors.New("weftd is not running")}
	b.want(b.call("DEL", "before-any-add", ""), 0)
	b.daemon = newBed(t).daemon
	for _, container := range []string{"a", "b"} {
		b.want(b.call("ADD", container, ""), 0)
	}
	b.daemon = fakeDaemon{err: errors.New("weftd is not running")}
	changed := `"socket":7,"wiring":{},"mtu":"large","bridge":7,"runtimeConfig":{"ips":["x"]},"prevResult":[]`
	for range 2 {
		b.want(b.callArgs("DEL", &skel.CmdArgs{ContainerID: "a", IfName: "eth0", Args: "nonsense"}, changed), 0)
		if !slices.Equal(b.held(), []string{"b"}) || len(b.kernel.ports) != 1 {
			t.Fatalf("left are the records of %v and the links %v; want those of b", b.held(), b.kernel.ports)
		}
	}
	b.want(b.call("DEL", strings.Repeat("x", 201), ""), 0) // ADD refuses such a container; a runtime calls DEL all the same
}

// TestDetachByTheDaemon: what the daemon at the configured socket does is not done again, and what it does not do is.
func TestDetachByTheDaemon(t *testing.T) {
	for _, verb := range []string{"DEL", "GC"} {
		for _, refusal := range []error{nil, errors.New("other devices are being removed")} {
			b := newBed(t)
			b.want(b.call("ADD", "a", ""), 0)
			var asked []string
			b.daemon.detach = func(device string) error {
				asked = append(asked, device)
				if refusal == nil {
					delete(b.kernel.ports, device)
				}
				return refusal
			}
			b.plugin.daemon = func(socket string) Daemon {
				asked = append(asked, socket)
				return b.daemon
			}
			byItself := 0
			b.inject(func(step string) error {
				if step == "detach" {
					byItself++
				}
				return nil
			})
			b.want(b.call(verb, "a", `"socket":"/run/here"`), 0)
			b.empty(verb)
			if want := []string{"/run/here", wiring.Device("a", "eth0")}; !slices.Equal(asked, want) || (byItself == 0) != (refusal == nil) {
				t.Errorf("%s, where the daemon answers %v: it was asked for %q, want %q; %d detached without it", verb, refusal, asked, want, byItself)
			}
		}
	}
}

// TestDelInTheNodesNamespace: skel would refuse it, but after a reboot a PID's namespace may be the node's.
func TestDelInTheNodesNamespace(t *testing.T) {
	b := newBed(t)
	b.want(b.call("ADD", "a", ""), 0)
	environment := map[string]string{"CNI_COMMAND": "DEL", "CNI_CONTAINERID": "a", "CNI_IFNAME": "eth0", "CNI_NETNS": "/proc/self/ns/net", "CNI_PATH": "/opt/cni/bin"}
	if err := b.main(environment, []byte(`{"cniVersion":"1.0.0","name":"weft"}`)); err != nil {
		t.Fatal(err)
	}
	b.empty("DEL")
}

// steps counts the steps of an operation.
func (b *bed) steps(operation func()) []string {
	var names []string
	b.inject(func(name string) error { names = append(names, name); return nil })
	operation()
	b.inject(func(string) error { return nil })
	return names
}

var errInjected = errors.New("injected")

// TestFailureAtEveryStep has ADD undo what it has done. Where undoing fails as well, from that step on, DEL ends it.
func TestFailureAtEveryStep(t *testing.T) {
	b := newBed(t)
	b.want(b.call("ADD", "first", ""), 0) // so that ADD needs no further step to make the directory
	b.want(b.call("DEL", "first", ""), 0)
	names := b.steps(func() { b.want(b.call("ADD", "a", ""), 0) })
	b.want(b.call("DEL", "a", ""), 0)
	if len(names) < 5 {
		t.Fatalf("ADD has the steps %v", names)
	}
	for i, name := range names {
		for _, forGood := range []bool{false, true} {
			n := 0
			b.inject(func(string) error {
				if n++; n-1 == i || forGood && n > i {
					return errInjected
				}
				return nil
			})
			err := b.try("ADD", &skel.CmdArgs{ContainerID: "a", Netns: sandbox, IfName: "eth0"}, "")
			if failed := err != nil; !failed && name != "sweep" {
				t.Errorf("ADD whose step %d, %s, failed: no error", i, name)
			}
			if len(b.held()) == 0 && len(b.kernel.ports) > 0 {
				t.Errorf("ADD whose step %d, %s, failed: the address is free, and the link there", i, name)
			}
			b.inject(func(string) error { return nil })
			if err != nil && !forGood {
				b.empty(fmt.Sprintf("ADD whose step %d, %s, failed", i, name))
			}
			b.want(b.call("DEL", "a", ""), 0)
			b.empty(fmt.Sprintf("DEL after an ADD that broke off at step %d, %s", i, name))
		}
	}
}

// TestFailingDel: the record stays as long as the link does, and the next DEL, or GC, ends it.
func TestFailingDel(t *testing.T) {
	b := newBed(t)
	again := func() { b.want(b.call("ADD", "a", ""), 0) }
	again()
	names := b.steps(func() { b.want(b.call("DEL", "a", ""), 0) })
	for i, name := range names {
		for _, next := range []string{"DEL", "GC"} {
			again()
			n := 0
			b.inject(func(string) error {
				if n++; n > i {
					return errInjected
				}
				return nil
			})
			if b.call("DEL", "a", "") == 0 {
				t.Errorf("DEL whose step %d, %s, failed: no error", i, name)
			}
			if len(b.held()) == 0 && len(b.kernel.ports) > 0 {
				t.Errorf("DEL whose step %d, %s, failed: the address is free, and the link there", i, name)
			}
			b.inject(func(string) error { return nil })
			b.want(b.call(next, "a", `"cni.dev/valid-attachments":[]`), 0)
			b.empty(next)
		}
	}
}

func TestExhausted(t *testing.T) {
	b := newBed(t)
	b.daemon.node.Blocks = b.daemon.node.Blocks[:1]
	for i := range 253 {
		b.want(b.call("ADD", fmt.Sprint("pod-", i), ""), 0)
	}
	b.want(b.call("ADD", "one-more", ""), 101)
	b.want(b.call("STATUS", "", ""), 0) // see Ready
	b.want(b.call("DEL", "pod-7", ""), 0)
	b.want(b.call("ADD", "one-more", ""), 0)
	b.want(b.call("ADD", "two-more", `"runtimeConfig":{"ips":["10.244.1.9"]}`), 102)
}

func TestCheck(t *testing.T) {
	b := newBed(t)
	b.want(b.call("ADD", "a", `"wiring":"bridge"`), 0)
	result := b.out.String()
	device := wiring.Device("a", "eth0")
	check := func(prev string, code uint, says ...string) {
		t.Helper()
		err := b.try("CHECK", &skel.CmdArgs{ContainerID: "a", Netns: sandbox, IfName: "eth0"}, `"prevResult":`+prev)
		if codeOf(err) != code {
			t.Errorf("%v, want code %d", err, code)
			return
		}
		for _, s := range says {
			if !strings.Contains(err.Error(), s) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v does not say %s in one line", err, s)
			}
		}
	}
	b.daemon = fakeDaemon{err: errors.New("weftd is not running")}
	check(result, 0)
	check(strings.Replace(result, "02:00:00:00:00:02", "02:00:00:00:00:99", 1), 0) // by tuning
	check(strings.Replace(result, "10.244.1.2", "10.244.1.3", 1), 104, "10.244.1.2")
	check(strings.Replace(result, device, "weft0", 1), 104, device)
	check(strings.Replace(result, `"cni0"`, `"cni1"`, 1), 104, "cni0")
	check(`{"interfaces":[null],"ips":[null],"routes":[null]}`, 104, "eth0", device, "10.244.1.2", "fd00:244:1::2")
	delete(b.kernel.ports, device)
	check(strings.Replace(result, "fd00:244:1::2", "fd00:244:1::3", 1), 104, device+" is not there", "fd00:244:1::2")
	if code := b.callArgs("CHECK", &skel.CmdArgs{ContainerID: "a", IfName: "eth1", Netns: sandbox}, `"prevResult":{}`); code != 3 {
		t.Errorf("an interface that was never added: code %d, want 3", code)
	}
}
