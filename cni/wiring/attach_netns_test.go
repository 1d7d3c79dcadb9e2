//go:build netns

package wiring

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestPodsReachEachOtherAndTheNode(t *testing.T) {
	bothWirings(t, func(t *testing.T, bridge string) {
		n := newNode(t)
		a, b := n.pod(bridge), n.pod(bridge)
		for i := range a.Addresses {
			must(t, reach(a.namespace, b.listen(b.Addresses[i].Addr()), 1200))
			must(t, reach(n.namespace, a.listen(a.Addresses[i].Addr()), 1200))
		}
		must(t, reach(a.namespace, n.listen(nodeAddress.Addr()), 1200))
		must(t, n.Check(a.Port))
		must(t, n.Detach(a.Device))
		must(t, n.Detach(b.Device))
		devices, err := n.Devices()
		must(t, err)
		if len(devices) > 0 {
			t.Errorf("%v are left", devices)
		}
	})
}

// A device that cannot be set down keeps its guard.
func TestGuardStaysWithADeviceThatIsUp(t *testing.T) {
	bothWirings(t, func(t *testing.T, bridge string) {
		n := newNode(t)
		a := n.pod(bridge)
		n.Inject(func(name string) error {
			if name == "remove guard" {
				return nil
			}
			return errors.New("refused")
		})
		if err := n.Detach(a.Device); err == nil {
			t.Error("Detach succeeds")
		}
		must(t, n.Check(a.Port))
		n.Inject(func(string) error { return nil })
		must(t, n.Detach(a.Device))
	})
}

// A second interface leaves the way out as it is, and both can be taken away in any order.
func TestSecondInterfaceOfAPod(t *testing.T) {
	bothWirings(t, func(t *testing.T, bridge string) {
		n := newNode(t)
		a := n.pod(bridge)
		second, _ := n.port(bridge)
		second.Netns, second.Interface = a.Netns, "eth1"
		defaults, err := n.DefaultRoutes(second.Netns)
		must(t, err)
		if len(defaults) != 2 {
			t.Errorf("DefaultRoutes: %v", defaults)
		}
		if _, err := n.Attach(second); err == nil {
			t.Error("a second default route is made")
		}
		second.Without = defaults
		_, err = n.Attach(second)
		must(t, err)
		must(t, n.Check(second))
		must(t, n.Check(a.Port))
		must(t, reach(a.namespace, n.listen(nodeAddress.Addr()), 100))
		second.Without = nil
		if err := n.Check(second); err == nil || !strings.Contains(err.Error(), "0.0.0.0/0") {
			t.Errorf("Check that asks for the default routes: %v", err)
		}
		must(t, n.Detach(a.Device))
		if defaults, err := n.DefaultRoutes(second.Netns); err != nil || len(defaults) > 0 {
			t.Errorf("DefaultRoutes without any: %v, %v", defaults, err)
		}
		must(t, n.Detach(second.Device))
	})
}

func TestDetachTwiceAndOfNothing(t *testing.T) {
	n := newNode(t)
	p, _ := n.port("")
	must(t, n.Detach(p.Device))
	_, err := n.Attach(p)
	must(t, err)
	must(t, n.Detach(p.Device))
	must(t, n.Detach(p.Device))
	if err := n.Detach("eth0"); err == nil {
		t.Error("Detach of eth0 succeeds")
	}
}

// The device goes with the pod's namespace; its guard waits for Detach.
func TestPodThatVanished(t *testing.T) {
	n := newNode(t)
	other := n.pod("")
	must(t, reach(n.namespace, other.listen(other.Addresses[1].Addr()), 100)) // it has a carrier
	before := n.dump()
	a := n.pod("")
	a.nl.Close()
	must(t, a.file.Close())
	for end := time.Now().Add(patience); ; {
		link, err := find(n.Wiring.nl, a.Device)
		must(t, err)
		if link == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the device has outlived its namespace")
		}
		time.Sleep(10 * time.Millisecond)
	}
	devices, err := n.Devices()
	must(t, err)
	if want := []string{a.Device, other.Device}; !slices.Equal(devices, slices.Sorted(slices.Values(want))) {
		t.Errorf("left are %v, want the guard of %s too", devices, a.Device)
	}
	must(t, n.Detach(a.Device))
	if diff := difference(before, n.dump()); diff != "" {
		t.Errorf("there is a difference:\n%s", diff)
	}
}

func TestAttachRefuses(t *testing.T) {
	n := newNode(t)
	a := n.pod("")
	file := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(file, nil, 0o600))
	other, pod := n.port("")
	pod.run("ip", "link", "add", "taken", "type", "bridge")
	before := n.dump() + pod.dump()
	for _, c := range []struct {
		name   string
		change func(p *Port)
		want   error
	}{
		{"twice", func(p *Port) { *p = a.Port }, ErrExists},
		{"interface exists", func(p *Port) { p.Interface = "taken" }, ErrExists},
		{"no file", func(p *Port) { p.Netns = file + "x" }, ErrNamespace},
		{"a file", func(p *Port) { p.Netns = file }, ErrNamespace},
		{"no path", func(p *Port) { p.Netns = "" }, ErrNamespace},
		{"a directory", func(p *Port) { p.Netns = "/" }, ErrNamespace},
		{"another kind of namespace", func(p *Port) { p.Netns = "/proc/self/ns/uts" }, ErrNamespace},
		{"the node's own", func(p *Port) { p.Netns = n.path }, ErrNamespace},
		{"a path for a name", func(p *Port) { p.Interface = "../eth0" }, nil},
		{"a long name", func(p *Port) { p.Interface = strings.Repeat("x", 16) }, nil},
		{"device of others", func(p *Port) { p.Device = "eth0" }, nil},
		{"no address", func(p *Port) { p.Addresses = nil }, nil},
		{"address of another pod", func(p *Port) { p.Addresses = a.Addresses }, nil},
		{"MTU", func(p *Port) { p.MTU = 1279 }, nil},
		{"no room for a bridge", func(p *Port) {
			p.Bridge, p.Addresses = "cni0", []netip.Prefix{netip.MustParsePrefix("10.244.1.9/32")}
		}, nil},
	} {
		p := other
		c.change(&p)
		_, err := n.Attach(p)
		if err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		if strings.Contains(fmt.Sprint(err), "\n") {
			t.Errorf("%s: more than a line: %v", c.name, err)
		}
	}
	if diff := difference(before, n.dump()+pod.dump()); diff != "" {
		t.Errorf("there is a difference:\n%s", diff)
	}
}

func TestManyAtOnce(t *testing.T) {
	bothWirings(t, func(t *testing.T, bridge string) {
		n := newNode(t)
		var ports []Port
		for range 50 {
			p, _ := n.port(bridge)
			ports = append(ports, p)
		}
		for range 2 {
			each(t, ports, func(p Port) error {
				_, err := n.Attach(p)
				return err
			})
			each(t, ports, n.Check)
			each(t, ports, func(p Port) error { return n.Detach(p.Device) })
		}
		devices, err := n.Devices()
		must(t, err)
		if len(devices) > 0 {
			t.Errorf("%v are left", devices)
		}
	})
}

func each(t *testing.T, ports []Port, do func(Port) error) {
	t.Helper()
	var all sync.WaitGroup
	errs := make([]error, len(ports))
	for i, p := range ports {
		all.Go(func() { errs[i] = do(p) })
	}
	all.Wait()
	must(t, errors.Join(errs...))
}

// Where IPv6 is off, IPv4 pods get along without, and a pod with an IPv6 address turns it on for its link.
func TestIPv6Disabled(t *testing.T) {
	bothWirings(t, func(t *testing.T, bridge string) {
		n := newNode(t)
		n.sysctl("ipv6/conf/all/disable_ipv6", "1")
		n.sysctl("ipv6/conf/default/disable_ipv6", "1")
		var pods []attached
		for range 4 {
			p, pod := n.port(bridge)
			if len(pods) < 2 {
				p.Addresses = p.Addresses[:1]
			}
			pod.sysctl("ipv6/conf/all/disable_ipv6", "1")
			pod.sysctl("ipv6/conf/default/disable_ipv6", "1")
			ends, err := n.Attach(p)
			must(t, err)
			pods = append(pods, attached{pod, p, ends})
		}
		if got := n.run("ip", "-6", "addr", "show", "dev", pods[0].Device) + pods[0].run("ip", "-6", "addr"); got != "" {
			t.Errorf("IPv6 for a pod without an IPv6 address:\n%s", got)
		}
		must(t, reach(pods[0].namespace, pods[1].listen(pods[1].Addresses[0].Addr()), 100))
		for i := range 2 {
			must(t, reach(pods[2].namespace, pods[3].listen(pods[3].Addresses[i].Addr()), 100))
		}
	})
}

// One chained behind weft, such as tuning, may give the pod another hardware address.
func TestPodWithAnotherHardwareAddress(t *testing.T) {
	bothWirings(t, func(t *testing.T, bridge string) {
		n := newNode(t)
		a, b := n.pod(bridge), n.pod(bridge)
		a.run("ip", "link", "set", "eth0", "address", "02:00:00:00:00:99")
		for i := range a.Addresses {
			must(t, reach(a.namespace, b.listen(b.Addresses[i].Addr()), 100))
			must(t, reach(n.namespace, a.listen(a.Addresses[i].Addr()), 100))
		}
		must(t, n.Check(a.Port))
	})
}

func BenchmarkAttach(b *testing.B) {
	for _, bridge := range []string{"", "cni0"} {
		b.Run("bridge="+bridge, func(b *testing.B) {
			n := newNode(b)
			p, _ := n.port(bridge)
			var detaching time.Duration
			for b.Loop() {
				_, err := n.Attach(p)
				must(b, err)
				start := time.Now()
				must(b, n.Detach(p.Device))
				detaching += time.Since(start)
			}
			b.ReportMetric(float64(detaching.Microseconds())/float64(b.N), "us/detach")
			b.ReportMetric(float64((b.Elapsed()-detaching).Microseconds())/float64(b.N), "us/attach")
		})
	}
}
