//go:build linux

package main

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/bench/topo"
)

func TestUnreachableLine(t *testing.T) {
	const refused = `PING 10.244.3.11 (10.244.3.11) 56(84) bytes of data.
From 10.244.1.0 icmp_seq=1 Destination Net Unreachable

--- 10.244.3.11 ping statistics ---
3 packets transmitted, 0 received, +1 errors, 100% packet loss, time 601ms
`
	if line, found := unreachableLine(refused); !found || line != "From 10.244.1.0 icmp_seq=1 Destination Net Unreachable" {
		t.Errorf("unreachableLine = %q, %v", line, found)
	}
	for name, out := range map[string]string{
		"another ICMP error":      "From 10.244.1.0 icmp_seq=1 Time to live exceeded\n",
		"an error of ping itself": "ping: connect: Network is unreachable\n",
	} {
		if line, found := unreachableLine(out); found {
			t.Errorf("%s: unreachableLine = %q", name, line)
		}
	}
}

func TestParseThroughput(t *testing.T) {
	const out = `{"start": {"test_start": {"protocol": "TCP", "num_streams": 1}}, "intervals": [],
		"end": {"sum_sent": {"bits_per_second": 9e9, "retransmits": 17}, "sum_received": {"bits_per_second": 8.5e9}}}`
	result, err := parseThroughput(out)
	if err != nil || result.String() != "8.50 Gb/s, 1 TCP stream, 17 retransmits" {
		t.Errorf("parseThroughput = %q, %v", result, err)
	}
	for _, bad := range []string{"", "{}", `{"error": "unable to connect"}`, out[:20]} {
		if _, err := parseThroughput(bad); err == nil {
			t.Errorf("parseThroughput(%q) gave no error", bad)
		}
	}
}

func FuzzParseThroughput(f *testing.F) {
	f.Add(`{"end": {"sum_received": {"bits_per_second": 1}}}`)
	f.Fuzz(func(t *testing.T, out string) {
		if result, err := parseThroughput(out); err == nil && !(result.End.Received.BitsPerSecond > 0) {
			t.Errorf("parseThroughput(%q) = %s", out, result)
		}
	})
}

func TestDirection(t *testing.T) {
	good := direction{Received: 10, Forwarded: 7, Drops: map[string]int64{"no_route": 2, "too_big": 1, "malformed": 0}}
	if err := good.check(); err != nil {
		t.Error(err)
	}
	if want := "10 received = 7 forwarded + 3 dropped (no_route 2, too_big 1)"; good.String() != want {
		t.Errorf("String = %q, want %q", good, want)
	}
	lost := good
	lost.Received++
	if lost.check() == nil {
		t.Error("a packet that was neither forwarded nor dropped gave no error")
	}
}

func TestMatrixOutcome(t *testing.T) {
	a, b := &topo.Namespace{}, &topo.Namespace{}
	m := matrix{
		from: []source{{ns: a, name: "pod1a"}, {ns: b, name: "node1"}},
		to:   []*pod{{Namespace: a, name: "pod1a"}},
		errs: [][]error{{nil}, {nil}},
	}
	shown, err := m.outcome(&screen{})
	if err != nil || !strings.HasPrefix(shown.detail, "1 of 1 pairs") {
		t.Errorf("outcome = %v, %v", shown, err)
	}
	m.errs[1][0] = errors.New("no reply")
	shown, err = m.outcome(&screen{})
	if !errors.Is(err, m.errs[1][0]) || !strings.HasPrefix(err.Error(), "1 of 1 pairs fail") || !strings.HasSuffix(shown.lines[2], "✗") {
		t.Errorf("outcome with a failure = %v, %v", shown, err)
	}
}

func TestResponderTellsTheSource(t *testing.T) {
	server, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	r := responders{sockets: []*net.UDPConn{server}}
	r.serving.Go(func() { respond(server) })
	t.Cleanup(func() {
		if err := r.close(); err != nil {
			t.Error(err)
		}
	})
	client, err := net.DialUDP("udp4", nil, server.LocalAddr().(*net.UDPAddr))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	seen, err := exchange(client, 5*time.Second)
	if want := netip.MustParseAddrPort(client.LocalAddr().String()); err != nil || seen != want {
		t.Errorf("the responder saw %s, %v, want %s", seen, err, want)
	}
}

func TestConcurrentlyPassesPanicsOn(t *testing.T) {
	ran := make([]bool, 3)
	defer func() {
		if got := recover(); got != "boom" || !ran[0] || !ran[2] {
			t.Errorf("recovered %v, ran %v", got, ran)
		}
	}()
	concurrently(len(ran), func(i int) {
		if i == 1 {
			panic("boom")
		}
		ran[i] = true
	})
}
