package main

import (
	"bytes"
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/cmd/internal/control"
)

func answered(us time.Duration) control.Ping {
	return control.Ping{Node: "node2", ID: idA, Endpoint: netip.MustParseAddrPort("192.0.2.2:8285"), Mode: "udp",
		RTT: control.Microseconds(us * time.Microsecond), MTU: 1450, PathMTU: 1500}
}

func lost(reason string) control.Ping {
	p := answered(0)
	p.Lost, p.Reason = true, reason
	return p
}

// ping runs weft with a tick after each line of its output, but for the given line, after which it calls then.
func ping(t *testing.T, socket, args string, line int, then func(interrupt func())) result {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ticks := make(chan time.Time, 1)
	lines := 0
	after := func() {
		if lines++; lines == line {
			then(cancel)
		}
		select {
		case ticks <- now:
		default:
		}
	}
	out, errOut := frames{after: after}, bytes.Buffer{}
	stopped := false
	c := &cli{out: &out, errOut: &errOut, socket: socket, now: func() time.Time { return now },
		ticker: func(interval time.Duration) (<-chan time.Time, func()) {
			if strings.Contains(args, "-i 200ms") != (interval == 200*time.Millisecond) {
				t.Errorf("weft %s: a probe every %s", args, interval)
			}
			return ticks, func() { stopped = true }
		},
	}
	status := c.run(ctx, strings.Fields(args))
	if !stopped {
		t.Error("the ticker was not stopped")
	}
	return result{status, out.String(), errOut.String()}
}

func TestPing(t *testing.T) {
	pings := []control.Ping{answered(212), lost("probes were answered until 3s ago"), answered(100), lost(""), answered(306)}
	for _, test := range []struct {
		args  string
		pings []control.Ping
		want  result
	}{
		{"ping node2", pings, result{0, `from node2 (192.0.2.2, udp): seq=1 time=0.212 ms mtu=1450 path=1500
from node2 (192.0.2.2, udp): seq=2 no answer: probes were answered until 3s ago
from node2 (192.0.2.2, udp): seq=3 time=0.100 ms mtu=1450 path=1500
from node2 (192.0.2.2, udp): seq=4 no answer
from node2 (192.0.2.2, udp): seq=5 time=0.306 ms mtu=1450 path=1500
5 probes, 3 answered, 40% lost, round trip min 0.100 ms, avg 0.206 ms, max 0.306 ms
`, ""}},
		{"ping -c 1 -i 200ms " + idA[:8], pings, result{0, `from node2 (192.0.2.2, udp): seq=1 time=0.212 ms mtu=1450 path=1500
1 probe, 1 answered, round trip min 0.212 ms, avg 0.212 ms, max 0.212 ms
`, ""}},
		{"ping node2 -c 2", []control.Ping{{Node: "node2", Lost: true, Reason: "no way\x1b[2J works"}}, result{1, `from node2: seq=1 no answer: no way�[2J works
from node2: seq=2 no answer: no way�[2J works
2 probes, 0 answered, 100% lost
`, ""}},
		{"ping node2 --json -c 2", pings, result{0, `{"seq":1,"node":"node2","id":"` + idA + `","endpoint":"192.0.2.2:8285","mode":"udp","rttUs":212,"mtu":1450,"pathMTU":1500,"lost":false}
{"seq":2,"node":"node2","id":"` + idA + `","endpoint":"192.0.2.2:8285","mode":"udp","rttUs":0,"mtu":1450,"pathMTU":1500,"lost":true,"reason":"probes were answered until 3s ago"}
{"sent":2,"answered":1,"loss":0.5,"minUs":212,"avgUs":212,"maxUs":212}
`, ""}},
		{"ping nod2", pings, result{1, "", "weft: weftd: no other node is called \"nod2\"; did you mean node2?\n"}},
		{"ping nobody-at-all", pings, result{1, "", "weft: weftd: no other node is called \"nobody-at-all\"; `weft peers` lists them all\n"}},
		{"ping node2", nil, result{1, "", "weft: weftd: weftd is starting\n"}},
	} {
		socket, _ := daemon(t, &backend{pings: test.pings})
		if got := ping(t, socket, test.args, 0, nil); got != test.want {
			t.Errorf("weft %s: got %d %q\n%s\nwant %d %q\n%s", test.args, got.status, got.errOut, got.out, test.want.status, test.want.errOut, test.want.out)
		}
	}
}

// TestPingInterrupted has Ctrl-C bring the sum of what there is.
func TestPingInterrupted(t *testing.T) {
	for sum, test := range map[string]struct {
		ping   control.Ping
		status int
	}{
		"7 probes, 7 answered, round trip min 0.212 ms, avg 0.212 ms, max 0.212 ms": {answered(212), 0},
		"7 probes, 0 answered, 100% lost":                                           {lost(""), 1},
	} {
		socket, _ := daemon(t, &backend{pings: []control.Ping{test.ping}})
		got := ping(t, socket, "ping node2 -c 0", 7, func(interrupt func()) { interrupt() })
		lines := strings.Split(got.out, "\n")
		if got.status != test.status || got.errOut != "" || len(lines) != 9 || !strings.Contains(lines[6], "seq=7") || lines[7] != sum {
			t.Errorf("got %+v, want %s", got, sum)
		}
	}
}

// TestPingOfEndingDaemon has the daemon end under a ping.
func TestPingOfEndingDaemon(t *testing.T) {
	socket, stop := daemon(t, &backend{pings: []control.Ping{answered(212)}})
	got := ping(t, socket, "ping node2", 2, func(func()) { stop() })
	if got.status != 1 || !strings.HasPrefix(got.errOut, "weft: weftd is not running") || !strings.Contains(got.out, "2 probes, 2 answered") {
		t.Errorf("got %+v", got)
	}
}

func TestCompleteNode(t *testing.T) {
	socket, _ := daemon(t, &backend{})
	got := run(t, socket, "__complete", "ping", "")
	if got.status != 0 || !strings.HasPrefix(got.out, "node4\nnode2\nnode3\nev\ufffd[2Jil\nlinux1\n:4\n") {
		t.Errorf("got %+v", got)
	}
	if got := run(t, "/nowhere", "__complete", "ping", ""); got.status != 0 || !strings.HasPrefix(got.out, ":4\n") {
		t.Errorf("no daemon: got %+v", got)
	}
}
