//go:build netns

package wiring

import (
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// A bridge of others, flannel's say, is good where it has the gateway's address, or none.
func TestBridgeOfOthers(t *testing.T) {
	for _, c := range []struct{ name, addresses, refused string }{
		{"the gateway", "10.244.1.1/24 fd24:0:0:1::1/64", ""},
		{"none", "", ""},
		{"one family", "10.244.1.1/24", ""},
		{"another block", "10.244.7.1/24", "10.244.7.1/24 where this node's block needs 10.244.1.1/24"},
		{"another length", "10.244.1.1/16", "10.244.1.1/16 where this node's block needs 10.244.1.1/24"},
		{"another IPv6 block", "10.244.1.1/24 fd24:0:0:7::1/64", "fd24:0:0:7::1/64 where this node's block needs fd24:0:0:1::1/64"},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := newNode(t)
			n.run("ip", "link", "add", "cni0", "type", "bridge")
			for _, a := range strings.Fields(c.addresses) {
				n.run("ip", "addr", "add", a, "dev", "cni0")
			}
			p, pod := n.port("cni0")
			ends, err := n.Attach(p)
			if c.refused != "" {
				if err == nil || !strings.Contains(err.Error(), c.refused) || !strings.Contains(err.Error(), "ip link delete cni0") {
					t.Errorf("Attach: %v, want %q and what to do", err, c.refused)
				}
				return
			}
			must(t, err)
			must(t, n.Check(p))
			if mac := n.link("cni0").Attrs().HardwareAddr; !slices.Equal(mac, ends.Bridge) {
				t.Errorf("Attach says the bridge has %v, and it has %v", ends.Bridge, mac)
			}
			for _, a := range p.Addresses {
				must(t, reach(n.namespace, (&attached{pod, p, ends}).listen(a.Addr()), 100))
			}
			n.removesBridges()
			n.link("cni0")
		})
	}
}

func TestBridgeIsNoBridge(t *testing.T) {
	n := newNode(t)
	n.run("ip", "link", "add", "cni0", "type", "veth", "peer", "name", "cni1")
	p, _ := n.port("cni0")
	if _, err := n.Attach(p); err == nil || !strings.Contains(err.Error(), "there is a veth of this name") {
		t.Errorf("Attach: %v", err)
	}
}

// When the node's block changes, pods with addresses of the former one go on.
func TestBridgeOfTwoBlocks(t *testing.T) {
	n := newNode(t)
	a := n.pod("cni0")
	p, pod := n.port("cni0")
	p.Addresses = []netip.Prefix{netip.MustParsePrefix("10.244.9.5/24")}
	_, err := n.Attach(p)
	must(t, err)
	b := attached{pod, p, Ends{}}
	must(t, reach(a.namespace, b.listen(p.Addresses[0].Addr()), 100))
	must(t, n.Check(a.Port))
	must(t, n.Check(p))

	overlapping, _ := n.port("cni0")
	overlapping.Addresses = []netip.Prefix{netip.MustParsePrefix("10.244.9.7/25")}
	if _, err := n.Attach(overlapping); err == nil || !strings.Contains(err.Error(), "10.244.9.1/24 where this node's block needs 10.244.9.1/25") {
		t.Errorf("Attach with a block of another length: %v", err)
	}
}

// Whatever step the maker of a bridge dies at, the next pod's is whole.
func TestBridgeWhoseMakerDied(t *testing.T) {
	n := newNode(t)
	var steps []string
	n.Inject(func(name string) error {
		steps = append(steps, name)
		return nil
	})
	n.pod("cni0")
	n.Inject(func(string) error { return nil })
	for _, step := range steps {
		n.run("ip", "link", "del", "cni0")
		p, _ := n.port("cni0")
		n.killed(t, "attach", p, step)
		must(t, n.Check(n.pod("cni0").Port))
		must(t, n.Detach(p.Device))
	}
}

// Where /proc/sys cannot be written, the error says what that costs.
func TestBridgeWithoutProcSys(t *testing.T) {
	n := newNode(t)
	p, _ := n.port("cni0")
	script := `mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys && exec "$@"`
	args := append([]string{"--net=" + n.path, "--", "unshare", "--mount", "sh", "-c", script, "sh"}, dying("attach", p, "never")...)
	cmd := exec.Command("nsenter", args...)
	cmd.Env = append(os.Environ(), "WEFT_WIRING_DIES=1")
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "cannot reach routed pods of this node; make /proc/sys writable") {
		t.Errorf("%v: %s", err, out)
	}
}

// ForgetBlocks leaves what pods use, and what is not of the pod networks.
func TestForgetBlocks(t *testing.T) {
	n := newNode(t)
	a := n.pod("cni0")
	former, _ := n.port("cni0")
	former.Addresses = []netip.Prefix{netip.MustParsePrefix("10.244.9.5/24"), netip.MustParsePrefix("fd24:0:0:9::5/64")}
	_, err := n.Attach(former)
	must(t, err)
	n.run("ip", "addr", "add", "192.168.7.1/24", "dev", "cni0")
	n.run("ip", "link", "add", "other", "type", "bridge")
	n.run("ip", "addr", "add", "10.244.9.99/24", "dev", "other")
	networks := []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd24::/48")}
	own := []netip.Prefix{a.Addresses[0].Masked(), a.Addresses[1].Masked()}
	forgets := func(keep []netip.Prefix, want ...string) {
		t.Helper()
		if got, err := n.ForgetBlocks(keep, networks); err != nil || !slices.Equal(got, want) {
			t.Errorf("ForgetBlocks keeping %v: %q, %v; want %q", keep, got, err, want)
		}
	}
	forgets(append(own, former.Addresses[0].Masked(), former.Addresses[1].Masked()))
	must(t, n.Detach(former.Device))
	forgets(own, "10.244.9.1/24 of cni0", "fd24:0:0:9::1/64 of cni0")
	forgets(own)
	must(t, n.Check(a.Port))
	if got := n.run("ip", "addr"); !strings.Contains(got, "192.168.7.1/24") || !strings.Contains(got, "10.244.9.99/24") {
		t.Errorf("others' addresses are gone:\n%s", got)
	}
	must(t, reach(n.namespace, a.listen(a.Addresses[1].Addr()), 100)) // by the link-local address
}

// What the node has learned of a pod goes with it, and not that of others.
func TestForget(t *testing.T) {
	n := newNode(t)
	a, b := n.pod("cni0"), n.pod("cni0")
	var addresses []netip.Addr
	for i := range a.Addresses {
		addresses = append(addresses, a.Addresses[i].Addr())
		must(t, reach(n.namespace, a.listen(addresses[i]), 100))
		must(t, reach(n.namespace, b.listen(b.Addresses[i].Addr()), 100))
	}
	must(t, n.Detach(a.Device))
	for range 2 {
		must(t, n.Forget("cni0", addresses))
		neighbours := n.run("ip", "neigh", "show", "dev", "cni0")
		for i := range addresses {
			if strings.Contains(neighbours, addresses[i].String()+" ") || !strings.Contains(neighbours, b.Addresses[i].Addr().String()+" ") {
				t.Errorf("of %v and %v the node knows:\n%s", addresses, b.Addresses, neighbours)
			}
		}
	}
	must(t, n.Forget("cni7", addresses))
}

func TestHairpin(t *testing.T) {
	n := newNode(t)
	a := n.pod("cni0")
	c := a.listen(a.Addresses[0].Addr())
	n.run("nft", "table ip nat { chain pre { type nat hook prerouting priority -100; ip daddr 10.96.0.1 dnat to 10.244.1.2; }; chain post { type nat hook postrouting priority 100; ip saddr 10.244.1.2 ip daddr 10.244.1.2 masquerade; }; }")
	err := reachAt(a.namespace, c, netip.MustParseAddr("10.96.0.1"), 100)
	must(t, err)
}

func (n *node) removesBridges(want ...string) {
	n.t.Helper()
	if got, err := n.RemoveBridges(); err != nil || !slices.Equal(got, want) {
		n.t.Errorf("RemoveBridges = %q, %v; want %q", got, err, want)
	}
}

func TestRemoveBridges(t *testing.T) {
	n := newNode(t)
	before := n.dump()
	a := n.pod("cni0")
	n.removesBridges()
	n.link("cni0") // which has a port
	must(t, n.Detach(a.Device))
	n.removesBridges("cni0")
	if diff := difference(before, n.dump()); diff != "" {
		t.Errorf("there is a difference:\n%s", diff)
	}
}
