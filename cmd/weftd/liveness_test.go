//go:build netns

package main

import (
	"context"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/cmd/internal/control"
)

const (
	dataPort  = 8285
	vxlanPort = 4789
)

// A firewall between two nodes that lets gossip through and no data is seen within
// seconds: another codec is used where its port is open, and where none is, weft says
// so and what to do.
func TestDataPathFails(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	c.startAll()
	a, b := c.members[0], c.members[1]
	a.uses(b, "udp")
	b.uses(a, "udp")
	s := c.stream(a.pod(10), b.pod(10))

	for _, step := range []struct {
		what    string
		ports   []uint16
		mode    string
		path    string
		why     string
		rest    time.Duration // before a way is taken again that was left
		problem string        // that weft doctor names
	}{
		{"the data port is closed", []uint16{dataPort}, "vxlan", control.DataWorks, "udp to %s:8285 does not work", 0, ""},
		{"the VXLAN port too", []uint16{dataPort, vxlanPort}, "udp", control.DataFails, "", 0, "open UDP port 8285"},
		{"the VXLAN port is open again", []uint16{dataPort}, "vxlan", control.DataWorks, "udp to %s:8285 does not work", 0, ""},
		{"all is open again", nil, "udp", control.DataWorks, "the peer asks for udp", returnAfter, ""},
	} {
		began := time.Now()
		if err := a.DropPorts(step.ports...); err != nil {
			t.Fatal(err)
		}
		for _, ends := range [][2]*member{{a, b}, {b, a}} {
			why := step.why
			if strings.Contains(why, "%s") {
				why = fmt.Sprintf(why, ends[1].Addr)
			}
			c.within(recovery+step.rest, step.what, func(ctx context.Context) error {
				p, err := ends[0].peer(ctx, ends[1])
				if err == nil && (p.Mode != step.mode || p.DataPath != step.path || p.State != control.PeerUp || !strings.Contains(p.Why, why)) {
					err = fmt.Errorf("%s is %s, by %s since %s, and the data path %s", ends[1], p.State, p.Mode, p.Why, p.DataPath)
				}
				return err
			})
			expectDoctor(t, ends[0], step.problem)
		}
		t.Logf("%s: known after %s", step.what, time.Since(began).Round(10*time.Millisecond))
		if step.path == control.DataWorks {
			s.goesOn(step.what)
		}
	}
}

// expectDoctor runs the shipped CLI, which is to fail where there is a problem, and to
// say what part of it names.
func expectDoctor(t *testing.T, m *member, part string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "../../bin/weft", "--socket", m.socket, "doctor").Output()
	if (err != nil) != (part != "") || !strings.Contains(string(out), part) {
		t.Errorf("%s: weft doctor: %v, want %q in\n%s", m, err, part, out)
	}
}

// weft ping is answered while the path works, and says so when it does not.
func TestPing(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	c.startAll()
	a, b := c.members[0], c.members[1]
	a.uses(b, "udp")
	ping := func(count string) (string, error) {
		out, err := exec.CommandContext(t.Context(), "../../bin/weft", "--socket", a.socket, "ping", b.String(), "-i", "100ms", "-c", count).Output()
		return string(out), err
	}
	if out, err := ping("3"); err != nil || !strings.Contains(out, "3 probes, 3 answered") {
		t.Errorf("weft ping: %v\n%s", err, out)
	}
	p, err := a.client.Ping(t.Context(), b.String())
	if err != nil || p.Lost || p.RTT <= 0 || time.Duration(p.RTT) > time.Second ||
		p.Mode != "udp" || p.Endpoint != netip.AddrPortFrom(b.Addr, dataPort) || p.MTU != 1444 || p.PathMTU != 1500 {
		t.Errorf("ping: %+v, %v", p, err)
	}
	if _, err := a.client.Ping(t.Context(), "nobody"); err == nil {
		t.Error("a ping to nobody is answered")
	}
	if err := b.DropPorts(dataPort, vxlanPort); err != nil {
		t.Fatal(err)
	}
	if out, err := ping("1"); err == nil || !strings.Contains(out, "no answer") {
		t.Errorf("weft ping without a path: %v\n%s", err, out)
	}
}

// weft peers says how much gets lost, here every third question to one node: never so
// many in a row that the way would be given up.
func TestLoss(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	c.startAll()
	a, b := c.members[0], c.members[1]
	a.uses(b, "udp")
	c.stream(a.pod(10), b.pod(10)) // busy peers are asked each second
	// Behind UDP's header and 4 bytes of GUE's: version and kind (dataplane/path/message.go).
	const question = "@th,96,16 0x0101"
	_, err := c.Underlay().Run(t.Context(), "nft", fmt.Sprintf(`table netdev loss {
		chain some { type filter hook egress device %q priority 0; udp dport %d udp length < 200 %s numgen inc mod 3 0 drop; }
	}`, b, dataPort, question))
	if err != nil {
		t.Fatal(err)
	}
	c.eventually("weft peers to say what is lost", func(ctx context.Context) error {
		p, err := a.peer(ctx, b)
		if err == nil && (p.Loss < 0.1 || p.Loss > 0.5 || p.RTT <= 0 || time.Duration(p.RTT) > time.Second) {
			err = fmt.Errorf("loss %v, round trip %d us", p.Loss, p.RTT)
		}
		return err
	})
	if p, err := a.peer(t.Context(), b); err != nil || p.Mode != "udp" || p.DataPath != control.DataWorks {
		t.Errorf("with a part of the probes lost: %+v, %v", p, err)
	}
}

// A node whose endpoint is routed into the pod network is not sent to, with a reason;
// and no packet goes round.
func TestEndpointInPodNetwork(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	a, b := c.members[0], c.members[1]
	for _, m := range c.members {
		if err := m.EnableIPv6(); err != nil {
			t.Fatal(err)
		}
		m.start("--underlay", m.Addr.String(), "--gossip-addr", m.Addr6.String(), "--join", a.seed6())
	}
	c.converged()
	a.uses(b, "udp")
	from, to := a.pod(10), b.pod(10)
	ping(t, from, to)
	route := []string{"ip", "route", "add", b.Addr.String(), "dev", "weft0"}
	if _, err := a.Run(t.Context(), route...); err != nil {
		t.Fatal(err)
	}
	c.eventually("the reason why nothing is sent", func(ctx context.Context) error {
		p, err := a.peer(ctx, b)
		if want := "its endpoint " + b.Addr.String() + " is routed into the pod network"; err == nil && (p.Mode != "" || !strings.Contains(p.Why, want)) {
			err = fmt.Errorf("it is sent to by %q, since %s, want %q", p.Mode, p.Why, want)
		}
		return err
	})
	const count = 50
	before := c.settled()[a].Egress
	if out, err := from.Run(t.Context(), "ping", "-c", fmt.Sprint(count), "-i", "0.01", "-W", "1", to.Addr.String()); err == nil {
		t.Errorf("a pod is reached by a way that there is not:\n%s", out)
	}
	after := c.settled()[a].Egress
	if n := after.Drops["no-route"] - before.Drops["no-route"]; n != count {
		t.Errorf("%d packets were dropped as no-route, want %d: %+v", n, count, after)
	}
	if n := after.Received - before.Received; n > 2*count {
		t.Errorf("of %d packets weft saw %d: some go round", count, n)
	}
	route[2] = "delete"
	if _, err := a.Run(t.Context(), route...); err != nil {
		t.Fatal(err)
	}
	a.uses(b, "udp")
	ping(t, from, to)
}
