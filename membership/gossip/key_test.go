package gossip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// Whoever has another key, or none, never becomes a member, and both sides say so.
func TestKeyMismatch(t *testing.T) {
	none := []byte{}
	for name, c := range map[string]struct {
		seed, joiner          []byte
		seedLog, joinerReason string
	}{
		"another key":     {testKey, []byte("another key, 32 bytes in length!"), "another gossip key", "another gossip key"},
		"a joiner's none": {testKey, none, "no gossip key", "a gossip key, and this node none"},
		"a seed's none":   {none, testKey, "a gossip key, and this node none", "no gossip key"},
	} {
		t.Run(name, func(t *testing.T) {
			seed := start(t, 1, Config{Key: c.seed})
			joiner := launch(t, 2, Config{Key: c.joiner, Join: joining(seed)}, newIdentity(t))
			err := joiner.gossip.Sync(t.Context())
			if !errors.Is(err, ErrKeyMismatch) || !errors.Is(err, ErrNoAnswer) ||
				!strings.Contains(err.Error(), c.joinerReason) || !strings.Contains(err.Error(), "gossipKeyFile") {
				t.Fatalf("Sync: %v; want %q", err, c.joinerReason)
			}
			joiner.publish(1400)
			joiner.run()
			eventually(t, "it is counted, again and again", func() bool {
				return seed.gossip.Stats().KeyMismatches > 2 && joiner.gossip.Stats().KeyMismatches > 2
			})
			if log := seed.log.String(); !strings.Contains(log, c.seedLog) || !strings.Contains(log, "from=127.0.0.1:") {
				t.Fatalf("the seed's log: %s", log)
			}
			if n := strings.Count(seed.log.String(), "level=WARN"); n != 1 {
				t.Fatalf("%d warnings of one kind", n)
			}
			if seed.gossip.Stats().Alive+joiner.gossip.Stats().Alive != 0 || len(seed.store.View(time.Now()).Members) != 0 {
				t.Fatal("it became a member")
			}
		})
	}
}

// Packets count as well as streams.
func TestUndecryptablePackets(t *testing.T) {
	n := start(t, 1, Config{})
	c, err := net.Dial("udp", n.gossip.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for i, packet := range [][]byte{
		slices.Concat([]byte{1}, make([]byte, 60)), // another key
		{9, 1, 2, 3}, // unencrypted, compressed
		{0, 1, 2, 3}, // too short for any
	} {
		if _, err := c.Write(packet); err != nil {
			t.Fatal(err)
		}
		eventually(t, fmt.Sprintf("packet %d is counted", i), func() bool { return n.gossip.Stats().KeyMismatches == uint64(i+1) })
	}
}

// memberlist's own words, as its log has them.
func TestLogLines(t *testing.T) {
	for line, want := range map[string]struct {
		level    slog.Level
		text     string
		mismatch mismatch
		from     string
	}{
		"[ERR] memberlist: Decrypt packet failed: no installed keys could decrypt the message from=10.0.0.9:7946\n":             {mismatch: otherKey, from: "10.0.0.9:7946"},
		"[ERR] memberlist: Decrypt packet failed: unsupported encryption version 9 from=10.0.0.9:7946\n":                        {mismatch: noKey, from: "10.0.0.9:7946"},
		"[ERR] memberlist: failed to receive: encryption is configured but remote state is not encrypted from=10.0.0.9:51234\n": {mismatch: noKey, from: "10.0.0.9:51234"},
		"[ERR] memberlist: failed to receive: remote state is encrypted and encryption is not configured from=10.0.0.9:51234\n": {mismatch: onlyKey, from: "10.0.0.9:51234"},
		"[ERR] memberlist: Push/Pull with abc failed: no installed keys could decrypt the message\n":                            {mismatch: otherKey},
		"[DEBUG] memberlist: failed to join 10.0.0.9:7946: no installed keys could decrypt the message\n":                       {level: slog.LevelDebug, text: "failed to join 10.0.0.9:7946: no installed keys could decrypt the message"},
		"[WARN] memberlist: Got ping for unexpected node x from=10.0.0.9:7946\n":                                                {level: slog.LevelDebug, text: "Got ping for unexpected node x from=10.0.0.9:7946"},
		"[ERR] memberlist: Push/Pull with x failed: dial tcp 10.0.0.9:7946: connect: connection refused\n":                      {level: slog.LevelDebug, text: "Push/Pull with x failed: dial tcp 10.0.0.9:7946: connect: connection refused"},
		"[WARN] memberlist: Refuting a suspect message (from: x)\n":                                                             {level: slog.LevelDebug, text: "Refuting a suspect message (from: x)"},
		"[WARN] memberlist: Was able to connect to x over TCP but UDP probes failed, network may be misconfigured\n":            {level: slog.LevelWarn, text: actionable[0].ours},
		"[ERR] memberlist: Failed to send UDP ping: write udp 10.0.0.1:7946->10.0.0.9:7946: sendto: operation not permitted\n":  {level: slog.LevelWarn, text: actionable[2].ours},
		"[ERR] memberlist: msg type (77) not supported from=10.0.0.9:7946\n":                                                    {level: slog.LevelWarn, text: "msg type (77) not supported from=10.0.0.9:7946"},
		"[INFO] memberlist: Suspect x has failed, no acks received\n":                                                           {level: slog.LevelDebug, text: "Suspect x has failed, no acks received"},
		"Err: Could not set the deadline: x\n":                                                                                  {level: slog.LevelDebug, text: "Err: Could not set the deadline: x"},
	} {
		r := &recorder{}
		var gotKind mismatch
		var gotFrom string
		w := &logWriter{log: slog.New(r), limit: newThrottle(time.Hour), mismatched: func(k mismatch, from string) { gotKind, gotFrom = k, from }}
		if n, err := w.Write([]byte(line)); n != len(line) || err != nil {
			t.Fatalf("Write: %d, %v", n, err)
		}
		if gotKind != want.mismatch || gotFrom != want.from || r.text != want.text || r.text != "" && r.level != want.level {
			t.Errorf("%s: %q %q from %q, logged %v %q", line, gotKind, want.mismatch, gotFrom, r.level, r.text)
		}
	}
}

type recorder struct {
	level slog.Level
	text  string
	count int
}

func (r *recorder) Enabled(context.Context, slog.Level) bool { return true }
func (r *recorder) WithAttrs([]slog.Attr) slog.Handler       { return r }
func (r *recorder) WithGroup(string) slog.Handler            { return r }
func (r *recorder) Handle(_ context.Context, rec slog.Record) error {
	r.level, r.text = rec.Level, rec.Message
	r.count++
	return nil
}

func TestLogIsThrottled(t *testing.T) {
	r := &recorder{}
	w := &logWriter{log: slog.New(r), limit: newThrottle(time.Hour)}
	for i := range 1000 {
		if _, err := fmt.Fprintf(w, "[ERR] memberlist: Failed to decode ping request: x from=10.0.0.%d:1\n", i%250); err != nil {
			t.Fatal(err)
		}
	}
	if r.count != 1 {
		t.Fatalf("%d lines", r.count)
	}
}

func TestThrottle(t *testing.T) {
	th := newThrottle(time.Minute)
	now := time.Unix(1, 0)
	want := func(kind string, at time.Duration, ok bool, suppressed int) {
		t.Helper()
		if gotOK, got := th.allow(kind, now.Add(at)); gotOK != ok || got != suppressed {
			t.Fatalf("%s at %s: %v, %d", kind, at, gotOK, got)
		}
	}
	want("a", 0, true, 0)
	want("a", 1, false, 0)
	want("b", 1, true, 0)
	want("a", time.Minute-1, false, 0)
	want("a", time.Minute, true, 2)
	// A flood of kinds is bounded, and passes.
	for i := range 10 * maxThrottled {
		th.allow(fmt.Sprint(i), now.Add(time.Minute))
	}
	if len(th.kinds) > maxThrottled+1 {
		t.Fatalf("%d kinds", len(th.kinds))
	}
	want("fresh", 2*time.Minute, true, 0)
}

func TestParseNames(t *testing.T) {
	for text, want := range map[string]string{
		"host":           "host:7946",
		"host:1":         "host:1",
		"10.0.0.1":       "10.0.0.1:7946",
		"10.0.0.1:1":     "10.0.0.1:1",
		"fd00::1":        "[fd00::1]:7946",
		"[fd00::1]":      "[fd00::1]:7946",
		"[fd00::1]:1":    "[fd00::1]:1",
		"":               "",
		":7946":          "",
		"host:":          "",
		"host:0":         "",
		"host:65536":     "",
		"host:port":      "",
		"a:b:c":          "",
		"host:1:2":       "",
		"[fd00::1]:port": "",
	} {
		names, err := parseNames([]string{text}, 7946)
		if got := fmt.Sprint(names); err == nil && got != "["+want+"]" || (err != nil) != (want == "") {
			t.Errorf("%q: %s, %v; want %q", text, got, err, want)
		}
	}
}

func TestOwnAddress(t *testing.T) {
	g := &Gossip{addr: netip.MustParseAddrPort("10.0.0.1:7946")}
	for addr, want := range map[string]bool{
		"10.0.0.1:7946":  true,
		"127.0.1.1:7946": true, // what Debian's hostname resolves to
		"127.0.1.1:7947": false,
		"10.0.0.1:7947":  false,
		"10.0.0.2:7946":  false,
	} {
		if got := g.own(netip.MustParseAddrPort(addr)); got != want {
			t.Errorf("%s: %v", addr, got)
		}
	}
}
