package gossip

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// mismatch is how a peer's encryption differs from ours.
type mismatch string

const (
	otherKey mismatch = "another gossip key"
	noKey    mismatch = "no gossip key"
	onlyKey  mismatch = "a gossip key, and this node none"
)

func (m mismatch) fix() string {
	switch m {
	case noKey:
		return "give it the gossipKeyFile of the other nodes"
	case onlyKey:
		return "give this node the gossipKeyFile of the other nodes"
	}
	return "give every node the same gossipKeyFile, as `weft key export` prints it on a node of the cluster"
}

// keyTexts are memberlist's words (v0.7.0, security.go decryptPayload and net.go
// readStream) for messages that it cannot decrypt. It has no other way to say so.
// An unencrypted packet begins with a message type, which reads as a version of the
// encryption. They come from our own log, and from a seed's refusal in Join's error.
// Immutable.
var keyTexts = []struct {
	text string
	kind mismatch
}{
	{"no installed keys could decrypt the message", otherKey},
	{"payload is too small to decrypt", otherKey},
	{"cannot decrypt empty payload", otherKey},
	{"unsupported encryption version", noKey},
	{"encryption is configured but remote state is not encrypted", noKey},
	{"remote state is encrypted and encryption is not configured", onlyKey},
}

func keyMismatch(text string) (mismatch, bool) {
	for _, k := range keyTexts {
		if strings.Contains(text, k.text) {
			return k.kind, true
		}
	}
	return "", false
}

// ordinary are memberlist's words (v0.7.0) for what happens when a node restarts, dies,
// or moves to another address, and when a stranger connects and says nothing: no operator
// can do anything about it, and who is alive is said elsewhere. Immutable.
var ordinary = []string{
	"Refuting ", // this node was taken for dead or suspect, and answers
	"Got ping for unexpected node",
	"Conflicting address for", // NotifyConflict says it better
	"connection refused", "connection reset by peer", "broken pipe", "no route to host", "i/o timeout", "EOF",
	"use of closed network connection", "operation was canceled",
}

// actionable are memberlist's words for what an operator can act on, and ours. Immutable.
var actionable = []struct{ text, ours string }{
	{"over TCP but UDP probes failed", "a node answers gossip over TCP and not over UDP: if this lasts, a firewall between the two drops UDP on the gossip port"},
	{"handler queue full", "this node is too busy to take all gossip: what it misses comes with the next full exchange"},
	{"Failed to send UDP ping", "a gossip packet could not be sent: is the underlay interface up, and does this machine's firewall let UDP out on the gossip port?"},
}

// logWriter turns memberlist's lines into slog records. Each Write is one line,
// "[LEVEL] memberlist: text from=address".
type logWriter struct {
	log        *slog.Logger
	limit      *throttle
	mismatched func(kind mismatch, from string)
}

// Write implements io.Writer for a log.Logger.
func (w *logWriter) Write(p []byte) (int, error) {
	level, text := splitLine(string(p))
	from := ""
	if i := strings.LastIndex(text, "from="); i >= 0 {
		from = strings.TrimSpace(text[i+len("from="):])
	}
	if kind, ok := keyMismatch(text); ok && level > slog.LevelDebug {
		w.mismatched(kind, from)
		return len(p), nil
	}
	if slices.ContainsFunc(ordinary, func(o string) bool { return strings.Contains(text, o) }) {
		level = slog.LevelDebug
	}
	if !w.log.Enabled(context.Background(), level) {
		return len(p), nil
	}
	if level == slog.LevelDebug {
		w.log.Debug(text)
		return len(p), nil
	}
	// A peer can provoke these at packet rate: one line of a kind at a time.
	if ok, suppressed := w.limit.allow(kindOf(text), time.Now()); ok {
		var args []any
		for _, a := range actionable {
			if strings.Contains(text, a.text) {
				text, args = a.ours, []any{"memberlist", text}
				break
			}
		}
		w.log.Log(context.Background(), level, text, append(args, suppressedAttr(suppressed)...)...)
	}
	return len(p), nil
}

func suppressedAttr(n int) []any {
	if n == 0 {
		return nil
	}
	return []any{"suppressed", n}
}

// splitLine returns the level and the text. What memberlist calls an error is a
// peer that does not answer: a warning here. Its news of members is said better by
// whoever watches the store: debug.
func splitLine(line string) (slog.Level, string) {
	line = strings.TrimSpace(line)
	level := slog.LevelDebug
	if tag, rest, ok := strings.Cut(line, "] "); ok && strings.HasPrefix(tag, "[") {
		if tag == "[WARN" || tag == "[ERR" || tag == "[ERROR" {
			level = slog.LevelWarn
		}
		line = rest
	}
	return level, strings.TrimPrefix(line, "memberlist: ")
}

// kindOf returns the first words of a line, which name no peer.
func kindOf(text string) string {
	words := strings.SplitN(text, " ", 4)
	return strings.Join(words[:min(3, len(words))], " ")
}

const maxThrottled = 256

// throttle lets one event of a kind through in each period, for a bounded number
// of kinds; the others share one.
type throttle struct {
	every time.Duration
	mu    sync.Mutex
	kinds map[string]*throttled
}

type throttled struct {
	last       time.Time
	suppressed int
}

func newThrottle(every time.Duration) *throttle {
	return &throttle{every: every, kinds: make(map[string]*throttled)}
}

// allow says whether to report an event, and how many like it were not reported
// since the last.
func (t *throttle) allow(kind string, now time.Time) (ok bool, suppressed int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	k := t.kinds[kind]
	if k == nil {
		if len(t.kinds) >= maxThrottled {
			maps.DeleteFunc(t.kinds, func(_ string, k *throttled) bool { return now.Sub(k.last) >= t.every })
		}
		if len(t.kinds) >= maxThrottled {
			kind = ""
		}
		if k = t.kinds[kind]; k == nil {
			k = &throttled{}
			t.kinds[kind] = k
		}
	}
	if !k.last.IsZero() && now.Sub(k.last) < t.every {
		k.suppressed++
		return false, 0
	}
	suppressed = k.suppressed
	k.last, k.suppressed = now, 0
	return true, suppressed
}
