package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/weft-net/weft/cmd/internal/control"
)

// topSamples are two looks, 2 s apart.
func topSamples() (before, after sample) {
	drops := func(n uint64) control.Drops {
		return control.Drops{Egress: control.Direction{Drops: map[string]uint64{"no-route": n, "too-big": 5}}, Ingress: control.Direction{Drops: map[string]uint64{"spoofed": 2 * n}}}
	}
	before = sample{at: now, peers: slices.Clone(samplePeers().Peers), drops: drops(0)}
	after = sample{at: now.Add(2 * time.Second), peers: slices.Clone(samplePeers().Peers), drops: drops(20)}
	udp := &after.peers[2]
	udp.Tx = control.Traffic{Packets: 2000, Bytes: 2_500_000_000}
	udp.Rx = control.Traffic{Packets: 1, Bytes: 100}
	restarted := &after.peers[4]
	before.peers[4].Tx = control.Traffic{Packets: 50, Bytes: 5000}
	restarted.Tx = control.Traffic{Packets: 7, Bytes: 700}
	after.peers = append(after.peers, control.Peer{ID: "n", Name: "fresh", State: control.PeerUp, Mode: "udp", Tx: control.Traffic{Packets: 1 << 40, Bytes: 1 << 50}})
	return before, after
}

func TestTopRates(t *testing.T) {
	before, after := topSamples()
	r := after.since(&before)
	want := map[string]flow{"node3": {1000, 1e10}}
	for _, p := range r.Peers {
		if p.Out != want[p.Name] {
			t.Errorf("%s: %+v", p.Name, p.Out)
		}
	}
	if r.Out != (flow{1000, 1e10}) || r.In != (flow{0.5, 400}) || r.Seconds != 2 || len(r.Peers) != 6 {
		t.Errorf("got %+v", r)
	}
	if drops := []dropRate{{"ingress", "spoofed", 20}, {"egress", "no-route", 10}}; !slices.Equal(r.Drops, drops) {
		t.Errorf("drops %+v", r.Drops)
	}
	first := before.since(&sample{})
	if first.Seconds != 0 || first.Out != (flow{}) || len(first.Peers) != 5 {
		t.Errorf("before there are two: %+v", first)
	}
}

func TestTopOrder(t *testing.T) {
	before, after := topSamples()
	r := after.since(&before)
	var o order
	names := func() (all []string) {
		for _, p := range o.sorted(r.Peers) {
			all = append(all, printable(p.Name))
		}
		return all
	}
	for _, step := range []struct {
		keys  []key
		want  string // of the order's column
		first string
	}{
		{nil, "NODE", "ev�[2Jil"},
		{[]key{'r'}, "NODE", "node4"},
		{[]key{'o'}, ">OUT", "node3"},
		{[]key{'t'}, ">RTT", "ev�[2Jil"},
		{[]key{keyRight}, ">LOSS", "node3"},
		{[]key{keyLeft, keyLeft}, ">IN p/s", "node3"},
		{[]key{'n', keyLeft}, ">PATH", "linux1"},
		{[]key{'x', keyRight, 'r'}, "NODE", "node4"},
	} {
		for _, k := range step.keys {
			o.press(k)
		}
		if got := names(); titles[o.column] != step.want || got[0] != step.first {
			t.Errorf("after %v: by %s: %v", step.keys, titles[o.column], got)
		}
	}
}

// TestTopFits has no line be wider than the terminal, and the most needed be there.
func TestTopFits(t *testing.T) {
	before, after := topSamples()
	for i := range 50 {
		after.peers = append(after.peers, control.Peer{ID: fmt.Sprint(i), Name: strings.Repeat("long-name-", 5) + fmt.Sprint(i), State: control.PeerUp, Mode: "vxlan"})
	}
	r := after.since(&before)
	for _, size := range []struct{ width, height int }{{200, 80}, {80, 24}, {40, 24}, {40, 10}, {20, 6}, {8, 5}, {1, 1}} {
		var page bytes.Buffer
		r.render(&page, false, order{column: columnOut}, true, size.width, size.height)
		lines := strings.Split(strings.TrimSuffix(page.String(), "\n"), "\n")
		for _, line := range lines {
			if utf8.RuneCountInString(line) > size.width && size.width >= least {
				t.Errorf("%v: line %q", size, line)
			}
		}
		if len(lines) > max(size.height, 60) || size.height > 4 && len(lines) > size.height {
			t.Errorf("%v: %d lines:\n%s", size, len(lines), page.String())
		}
	}
	var page bytes.Buffer
	r.Peers = r.Peers[:6]
	r.render(&page, false, order{column: columnOut}, true, 80, 24)
	if !strings.Contains(page.String(), "node3     up, no data  udp     10.0 Gb/s") || !strings.Contains(page.String(), "node2     up           direct          -        -") {
		t.Errorf("got\n%s", page.String())
	}
}

func TestPacketRate(t *testing.T) {
	for perSecond, want := range map[float64]string{0: "0", 12: "12", 1230: "1.23k", 45_600: "45.6k", 1.2e6: "1.20M"} {
		if got := packetRate(perSecond); got != want {
			t.Errorf("%g: got %s, want %s", perSecond, got, want)
		}
	}
}

// TestTopWithoutTerminal prints once an interval, from the second look on.
func TestTopWithoutTerminal(t *testing.T) {
	socket, _ := daemon(t, &backend{})
	got := tickedTop(t, socket, "top --json")
	lines := strings.Split(strings.TrimSuffix(got.out, "\n"), "\n")
	var r rates
	if got.status != 0 || len(lines) != 2 || json.Unmarshal([]byte(lines[1]), &r) != nil || len(r.Peers) != 5 || r.Peers[1].Name != "node2" {
		t.Errorf("got %+v", got)
	}
	if strings.Contains(got.out, "null") {
		t.Errorf("null in %s", got.out)
	}
	got = tickedTop(t, socket, "top")
	if got.status != 0 || strings.Count(got.out, "NODE") != 2 || strings.Contains(got.out, "\x1b") || got.errOut != "" {
		t.Errorf("got %+v", got)
	}
	if got := run(t, socket, "top", "-i", "10ms"); got != (result{2, "", "weft: --interval is 10ms, and must be at least 200ms\n"}) {
		t.Errorf("got %+v", got)
	}
}

// tickedTop runs weft top for two ticks, and then Ctrl-C.
func tickedTop(t *testing.T, socket, args string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	ticks := make(chan time.Time, 2)
	ticks <- now
	ticks <- now
	var errOut bytes.Buffer
	left := 2
	out := frames{after: func() {
		if left--; left == 0 {
			cancel()
		}
	}}
	at := now
	c := &cli{
		out: &out, errOut: &errOut, socket: socket,
		now:    func() time.Time { at = at.Add(time.Second); return at },
		ticker: func(time.Duration) (<-chan time.Time, func()) { return ticks, func() {} },
	}
	status := c.run(ctx, strings.Fields(args))
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		t.Error("top did not end")
	}
	return result{status, out.String(), errOut.String()}
}

// TestTopOutlivesDaemon says on the screen that the daemon is gone, and comes back to the terminal as it was.
func TestTopOutlivesDaemon(t *testing.T) {
	socket, stop := daemon(t, &backend{})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	ticks := make(chan time.Time, 1)
	left := 3
	out := frames{after: func() {
		switch left--; left {
		case 1: // the first frame is there
			stop()
			ticks <- now
		case 0:
			cancel()
		}
	}}
	c := &cli{
		out: &out, errOut: &out, terminal: true, socket: socket, now: time.Now, size: func() (int, int) { return 60, 10 },
		ask:    func() (*os.File, error) { return nil, errors.New("no terminal") },
		ticker: func(time.Duration) (<-chan time.Time, func()) { return ticks, func() {} },
	}
	if status := c.run(ctx, []string{"top"}); status != 0 {
		t.Errorf("status %d", status)
	}
	got := out.String()
	if !strings.HasPrefix(got, enterScreen) || !strings.HasSuffix(got, leaveScreen) || !strings.Contains(got, "weftd is not running") || strings.Count(got, "\x1b[H") != 2 {
		t.Errorf("got %q", got)
	}
}

func TestParseKeys(t *testing.T) {
	for sent, want := range map[string]string{
		"q": "q", "Q": "q", "\x03": "q", "nR": "nr", "\x1b[D\x1b[C": "<>", "\x1bOD": "<", "o\x1b[Aq": "oq", "": "", "\x1b": "+1", "q\x1b[": "q+2",
	} {
		keys, rest := parseKeys([]byte(sent))
		got := ""
		for _, k := range keys {
			got += map[key]string{keyLeft: "<", keyRight: ">"}[k]
			if k > 0 {
				got += string(rune(k))
			}
		}
		if len(rest) > 0 {
			got += fmt.Sprintf("+%d", len(rest))
		}
		if got != want {
			t.Errorf("%q: got %s, want %s", sent, got, want)
		}
	}
}

// FuzzParseKeys has keys be the same however they arrive, and little be kept of what is none.
func FuzzParseKeys(f *testing.F) {
	f.Add([]byte("q\x1b[D\x1b[15~\x1bOC\x03"), 3)
	f.Add([]byte("\x1b\x1b\x1b["), 1)
	f.Fuzz(func(t *testing.T, sent []byte, split int) {
		whole, rest := parseKeys(bytes.Clone(sent))
		if len(rest) >= longestEscape {
			t.Fatalf("%q is kept of %q", rest, sent)
		}
		at := max(0, min(split, len(sent)))
		first, kept := parseKeys(bytes.Clone(sent[:at]))
		second, _ := parseKeys(append(bytes.Clone(kept), sent[at:]...))
		if parts := append(first, second...); !slices.Equal(parts, whole) {
			t.Errorf("%q in two parts is %v, and %v whole", sent, parts, whole)
		}
	})
}
