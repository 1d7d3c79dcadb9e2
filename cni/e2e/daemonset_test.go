//go:build netns && daemonset

package e2e

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// tun is weftd's device.
const tun = "weft0"

// TestDaemonSet runs the image that `make package` has made on two nodes, as the Kubernetes manifest says, has the runtime
// make pods by the plugin that weftd has installed, and replaces weftd under a TCP connection of theirs.
func TestDaemonSet(t *testing.T) {
	m := readManifest(t, "198.51.100.1, 198.51.100.2")
	top := newTopology(t)
	a, b := newKubelet(t, top, 1, m), newKubelet(t, top, 2, m)
	b.n.run("sysctl", "-w", "net.ipv4.conf.all.rp_filter=1", "net.ipv4.conf.default.rp_filter=1", "net.ipv4.conf.eth0.rp_filter=1") // as a strict host has it
	a.run()
	b.run()
	for _, k := range []*kubelet{a, b} {
		k.healthy()
		k.offers()
	}
	a.knows(b)
	b.knows(a)

	first, far := a.serve("first"), b.serve("far")
	first.reaches(far)
	far.reaches(first)
	a.traces(first, far)
	s := first.stream(far)
	before := a.n.run("ip", "-o", "address", "show", "dev", tun)
	a.remove()
	a.run()
	a.healthy()
	s.goesOn()
	if after := a.n.run("ip", "-o", "address", "show", "dev", tun); after != before {
		t.Errorf("after an upgrade the device is\n%sbefore it was\n%s", after, before)
	}

	a.remove()
	b.remove()
	a.stays()
	first.remove(t)
	far.remove(t)
}

// knows expects that the other node answers.
func (k *kubelet) knows(other *kubelet) {
	k.n.t.Helper()
	k.n.eventually("an answer of "+other.n.String(), func(ctx context.Context) error {
		_, err := k.weft(ctx, "ping", "--count", "1", other.n.String())
		return err
	})
}

// offers expects that the runtime has been given the network, and a plugin for this machine.
func (k *kubelet) offers() {
	n := k.n
	n.t.Helper()
	n.eventually("the runtime to know its network", k.ready)
	plugin, err := elf.Open(filepath.Join(n.binDir(), "weft-cni"))
	if err != nil {
		n.t.Fatal(err)
	}
	defer plugin.Close()
	machines := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}
	if plugin.Machine != machines[runtime.GOARCH] {
		n.t.Errorf("the image is for %s", plugin.Machine)
	}
}

// stays expects of a node whose DaemonSet has been deleted that it has what the runtime needs to remove pods.
func (k *kubelet) stays() {
	k.n.t.Helper()
	for _, path := range []string{filepath.Join(k.n.confDir(), conflistName), filepath.Join(k.n.binDir(), "weft-cni")} {
		if _, err := os.Stat(path); err != nil {
			k.n.t.Error(err)
		}
	}
}

// reaches expects that p reaches other by ICMP and TCP, with its own address.
func (p *pod) reaches(other *pod) {
	n := p.n
	n.t.Helper()
	server := other.addrs[0]
	n.eventually(fmt.Sprintf("%s to reach %s", p.addrs[0], server), func(ctx context.Context) error {
		if out, err := p.exec(ctx, "ping", "-c", "1", "-W", "1", server.String()); err != nil {
			return fmt.Errorf("%w\n%s", err, out)
		}
		shown, err := p.fetch(ctx, netip.AddrPortFrom(server, webPort))
		if err == nil && shown != p.addrs[0] {
			n.t.Fatalf("%s sees %s in place of %s", server, shown, p.addrs[0])
		}
		return err
	})
}

// traces expects that both nodes see a probe which their kernels carry: that takes packet sockets.
func (k *kubelet) traces(from, to *pod) {
	k.n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if out, err := k.weft(ctx, "trace", from.addrs[0].String(), to.addrs[0].String()); err != nil {
		k.n.t.Errorf("%v\n%s", err, out)
	}
}

// stream is a TCP connection between two pods that brings back what is sent, a line at a time.
type stream struct{ from *pod }

// streamPort is the far pod's.
const streamPort = "9000"

func (p *pod) stream(to *pod) stream {
	t := p.n.t
	t.Helper()
	s := stream{p}
	for _, c := range []struct {
		in     *pod
		script string
	}{
		{to, fmt.Sprintf("nc -l -p %s -e cat", streamPort)},
		{p, fmt.Sprintf("(while echo; do sleep 0.02; done) | nc %s %s >/tmp/back", to.addrs[0], streamPort)},
	} {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		_, err := c.in.exec(ctx, "sh", "-c", "("+c.script+") >/dev/null 2>&1 &")
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		if c.in == to {
			p.n.eventually("the far pod to listen", func(ctx context.Context) error {
				out, err := to.exec(ctx, "netstat", "-ltn")
				if err == nil && !strings.Contains(out, ":"+streamPort) {
					err = errors.New(out)
				}
				return err
			})
		}
	}
	s.goesOn()
	return s
}

// goesOn waits until more has come back.
func (s stream) goesOn() {
	n := s.from.n
	n.t.Helper()
	var before string
	n.eventually("a TCP connection between pods to go on", func(ctx context.Context) error {
		lines, err := s.from.exec(ctx, "wc", "-l", "/tmp/back")
		if before == "" {
			before = lines
		}
		if err == nil && lines == before {
			err = errors.New("nothing comes back")
		}
		return err
	})
}
