//go:build netns

package wiring

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// patience is how long to wait for what the kernel may put off.
const patience = 10 * time.Second

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A namespace is a network namespace that lives as long as the test. Its path is good for other processes too.
type namespace struct {
	t    testing.TB
	file *os.File
	nl   *netlink.Handle
	path string
}

func newNamespace(t testing.TB) *namespace {
	t.Helper()
	made := make(chan error)
	var file *os.File
	go func() {
		runtime.LockOSThread() // the thread ends with the goroutine
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			file, err = os.Open("/proc/thread-self/ns/net")
		}
		made <- err
	}()
	must(t, <-made)
	n := &namespace{t: t, file: file, path: fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), file.Fd())}
	var err error
	n.nl, err = dial(file)
	must(t, err)
	t.Cleanup(func() {
		n.nl.Close()
		file.Close()
	})
	// What a new namespace may have from the host (net.core.devconf_inherit_init_net).
	for _, key := range []string{"ipv4/ip_forward", "ipv4/conf/all/rp_filter", "ipv4/conf/default/rp_filter", "ipv6/conf/all/disable_ipv6", "ipv6/conf/default/disable_ipv6", "ipv6/conf/default/accept_dad"} {
		n.sysctl(key, "0")
	}
	must(t, n.nl.LinkSetUp(n.link("lo")))
	return n
}

func (n *namespace) sysctl(key, value string) {
	n.t.Helper()
	must(n.t, inside(n.file, func() error { return os.WriteFile("/proc/sys/net/"+key, []byte(value), 0) }))
}

func (n *namespace) link(name string) netlink.Link {
	n.t.Helper()
	l, err := n.nl.LinkByName(name)
	if err != nil {
		n.t.Fatalf("%s: %v", name, err)
	}
	return l
}

// run returns what a command says inside.
func (n *namespace) run(args ...string) string {
	n.t.Helper()
	out, err := exec.Command("nsenter", append([]string{"--net=" + n.path, "--"}, args...)...).CombinedOutput()
	if err != nil {
		n.t.Fatalf("%s: %v: %s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// dump is all that an attachment changes.
func (n *namespace) dump() string {
	n.t.Helper()
	var b strings.Builder
	for _, command := range []string{"ip -o link", "ip -o addr", "ip route show table all", "ip neigh", "ip -6 neigh", "ip -6 neigh show proxy", "nft list ruleset"} {
		fmt.Fprintf(&b, "%s:\n%s", command, strings.ReplaceAll(n.run(strings.Fields(command)...), " linkdown", ""))
	}
	return b.String()
}

// difference has the lines that came and went from one dump to the other, but for the link-local addresses that the kernel
// makes some time after.
func difference(before, after string) string {
	lines := func(sign, of, other string) (b string) {
		for line := range strings.Lines(of) {
			if !strings.Contains(other, line) && !strings.Contains(line, "fe80::c7") {
				b += sign + line
			}
		}
		return b
	}
	return lines("- ", before, after) + lines("+ ", after, before)
}

// A node is a namespace that forwards, with its Wiring.
type node struct {
	*namespace
	*Wiring
	pods int
}

func newNode(t testing.TB) *node {
	t.Helper()
	n := &node{namespace: newNamespace(t)}
	must(t, n.namespace.nl.AddrAdd(n.link("lo"), &netlink.Addr{IPNet: ipNet(nodeAddress)}))
	n.sysctl("ipv4/ip_forward", "1")
	n.sysctl("ipv6/conf/all/forwarding", "1")
	must(t, inside(n.file, func() (err error) {
		n.Wiring, err = Open()
		return err
	}))
	t.Cleanup(n.Close)
	return n
}

// port is for a new pod, whose namespace it makes.
func (n *node) port(bridge string) (Port, *namespace) {
	n.t.Helper()
	pod := newNamespace(n.t)
	n.pods++
	host := byte(n.pods + 1)
	return Port{
		Device: Device("pod", fmt.Sprint(host)), Owner: "weft pod test", Netns: pod.path, Interface: "eth0", MTU: 1400, Bridge: bridge,
		Addresses: []netip.Prefix{
			netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 244, 1, host}), 24),
			netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfd, 0x24, 7: 1, 15: host}), 64),
		},
	}, pod
}

// nodeAddress is the node's, beyond what its pods bring.
var nodeAddress = netip.MustParsePrefix("192.0.2.1/32")

type attached struct {
	*namespace
	Port
	Ends
}

func (n *node) pod(bridge string) attached {
	n.t.Helper()
	p, pod := n.port(bridge)
	ends, err := n.Attach(p)
	must(n.t, err)
	return attached{pod, p, ends}
}

// bothWirings runs a test for each.
func bothWirings(t *testing.T, test func(t *testing.T, bridge string)) {
	t.Run("routed", func(t *testing.T) { test(t, "") })
	t.Run("bridge", func(t *testing.T) { test(t, "cni0") })
}

func (n *namespace) listen(a netip.Addr) *net.UDPConn {
	n.t.Helper()
	var c *net.UDPConn
	must(n.t, inside(n.file, func() (err error) {
		c, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, 7777)))
		return err
	}))
	n.t.Cleanup(func() { c.Close() })
	return c
}

// reach sends a datagram of size octets from one to the other's listener and back.
func reach(from *namespace, to *net.UDPConn, size int) error {
	return reachAt(from, to, to.LocalAddr().(*net.UDPAddr).AddrPort().Addr(), size)
}

// reachAt sends to another address, which leads to the listener.
func reachAt(from *namespace, to *net.UDPConn, at netip.Addr, size int) error {
	var c *net.UDPConn
	err := inside(from.file, func() (err error) {
		c, err = net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(at, 7777)))
		return err
	})
	if err != nil {
		return err
	}
	defer c.Close()
	buf := make([]byte, size+1)
	if _, err := c.Write(buf[:size]); err != nil {
		return err
	}
	if err := errors.Join(c.SetDeadline(time.Now().Add(patience)), to.SetDeadline(time.Now().Add(patience))); err != nil {
		return err
	}
	n, peer, err := to.ReadFromUDPAddrPort(buf)
	if err != nil {
		return fmt.Errorf("to %v: %w", to.LocalAddr(), err)
	}
	if _, err := to.WriteToUDPAddrPort(buf[:n], peer); err != nil {
		return err
	}
	if n, err = c.Read(buf); err != nil || n != size {
		return fmt.Errorf("the answer of %v: %d octets, %w", to.LocalAddr(), n, err)
	}
	return nil
}
