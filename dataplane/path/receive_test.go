package path_test

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/weft-net/weft/dataplane/path"
)

// exchange is a request of a to b, and b's answer.
func exchange(tb testing.TB) (w *world, probe path.Probe, answer []byte) {
	tb.Helper()
	w = pair(tb, 1, link{mtu: 1500}, 1500)
	w.nodes["b"].Set([]path.Candidate{{Way: to("a"), Ceiling: 1500}, {Way: to("c"), Ceiling: 1500}}, w.now)
	probe, _, ok := w.nodes["a"].Ping(to("b"), w.now)
	if !ok {
		tb.Fatal("no ping")
	}
	answer, err := w.nodes["b"].Receive("a", probe.Message, probe.Size, w.now)
	if err != nil {
		tb.Fatal(err)
	}
	return w, probe, answer
}

func TestPing(t *testing.T) {
	w := pair(t, 1, link{mtu: 1500}, 1500)
	a, b := w.nodes["a"], w.nodes["b"]
	p, id, ok := a.Ping(to("b"), w.now)
	if !ok || p.Way != to("b") || len(p.Message) != path.MessageLen || p.Size != path.SmallSize {
		t.Fatalf("%v %+v", ok, p)
	}
	if _, ok := a.Pong(id); ok {
		t.Error("pong before the answer")
	}
	answer, err := b.Receive("a", p.Message, p.Size, w.now)
	if err != nil || len(answer) != path.MessageLen {
		t.Fatalf("answer %x, %v", answer, err)
	}
	if _, err := a.Receive("b", answer, 60, w.now.Add(7*time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if rtt, ok := a.Pong(id); !ok || rtt != 7*time.Millisecond {
		t.Errorf("pong %v, %v", rtt, ok)
	}
	if _, ok := a.Pong(id); ok {
		t.Error("a second pong")
	}
	if s := a.State(to("b")); !s.Works || s.RTT != 7*time.Millisecond {
		t.Errorf("%+v", s)
	}
	if _, _, ok := a.Ping(to("c"), w.now); ok {
		t.Error("a ping of no candidate")
	}
}

func TestReceiveRefuses(t *testing.T) {
	w, probe, answer := exchange(t)
	a, b := w.nodes["a"], w.nodes["b"]
	foreign := path.New("b", path.Key([]byte("other")), w.now)
	foreign.Set([]path.Candidate{{Way: to("a")}}, w.now)
	forged, _, _ := foreign.Ping(to("a"), w.now)
	a.Set([]path.Candidate{{Way: to("b")}, {Way: to("c")}}, w.now)
	forC := path.New("a", path.Key([]byte("secret")), w.now)
	forC.Set([]path.Candidate{{Way: to("c")}}, w.now)
	elsewhere, _, _ := forC.Ping(to("c"), w.now)
	changed := func(message []byte, at int) []byte {
		m := bytes.Clone(message)
		m[at] ^= 1
		return m
	}
	padded := append(bytes.Clone(probe.Message), make([]byte, 68)...)
	for _, c := range []struct {
		name    string
		at      *node
		from    string
		message []byte
		size    int
		want    error
	}{
		{"empty", b, "a", nil, probe.Size, path.ErrMalformed},
		{"truncated", b, "a", padded[:path.MessageLen-1], probe.Size, path.ErrMalformed},
		{"other version", b, "a", changed(padded, 0), probe.Size, path.ErrMalformed},
		{"no type", b, "a", changed(padded, 1), probe.Size, path.ErrMalformed},
		{"not of a candidate", b, "d", padded, probe.Size, path.ErrForeign},
		{"as if of another", b, "c", padded, probe.Size, path.ErrForged},
		{"reflected request", a, "b", padded, probe.Size, path.ErrForged},
		{"reflected answer", b, "a", answer, 60, path.ErrForged},
		{"other size", b, "a", changed(padded, 7), probe.Size, path.ErrForged},
		{"other nonce", b, "a", changed(padded, 8), probe.Size, path.ErrForged},
		{"other code", b, "a", changed(padded, path.MessageLen-1), probe.Size, path.ErrForged},
		{"for another", b, "a", elsewhere.Message, elsewhere.Size, path.ErrForged},
		{"answer of another peer", a, "c", a.Seal(probe, probe.Size, "c", "a"), 60, path.ErrStale},
		{"answer with another size", a, "b", a.Seal(probe, probe.Size+1, "b", "a"), 60, path.ErrStale},
		{"other key", a, "b", forged.Message, forged.Size, path.ErrForged},
		{"reassembled, or cut", b, "a", padded, probe.Size - 1, path.ErrResized},
		{"padding does not matter", b, "a", changed(padded, path.MessageLen), probe.Size, nil},
		{"answer", a, "b", answer, 60, nil},
		{"answer replayed", a, "b", answer, 60, path.ErrStale},
	} {
		got, err := c.at.Receive(c.from, c.message, c.size, w.now)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		if err != nil && got != nil {
			t.Errorf("%s: refused and answered", c.name)
		}
	}
}

// A flood in a peer's name is looked at within a limit, requests and answers together,
// and leaves the other peers alone.
func TestFloodIsNotLookedAt(t *testing.T) {
	w, probe, answer := exchange(t)
	b := w.nodes["b"]
	now := w.now.Add(time.Second)
	forged := [][]byte{bytes.Clone(probe.Message), bytes.Clone(answer)}
	looked := func(messages int) (n int) {
		for i := range messages {
			m := forged[i%2]
			m[path.MessageLen-1] ^= byte(i/2%255 + 1)
			switch _, err := b.Receive("a", m, probe.Size, now); {
			case errors.Is(err, path.ErrForged):
				n++
			case !errors.Is(err, path.ErrFlood):
				t.Fatal(err)
			}
			m[path.MessageLen-1] ^= byte(i/2%255 + 1)
		}
		return n
	}
	if n := looked(10_000); n != path.MessageBurst {
		t.Errorf("looked at %d at once", n)
	}
	if _, err := b.Receive("c", forged[0], probe.Size, now); !errors.Is(err, path.ErrForged) {
		t.Errorf("of another: %v", err)
	}
	n := 0
	for range 1000 {
		now = now.Add(time.Millisecond)
		n += looked(20)
	}
	if n > path.MessageRate || n < path.MessageRate*99/100 {
		t.Errorf("looked at %d in a second", n)
	}
	now = now.Add(time.Second)
	if _, err := b.Receive("a", probe.Message, probe.Size, now); err != nil {
		t.Errorf("after the flood: %v", err)
	}
}

func TestLateAnswerIsStale(t *testing.T) {
	w, _, answer := exchange(t)
	if _, err := w.nodes["a"].Receive("b", answer, 60, w.now.Add(time.Minute)); !errors.Is(err, path.ErrStale) {
		t.Error(err)
	}
}

func TestAnswerOfAWayThatWent(t *testing.T) {
	w, _, answer := exchange(t)
	a := w.nodes["a"]
	other := to("b")
	other.Mode = "vxlan"
	for _, ways := range [][]path.Candidate{{{Way: other}}, {{Way: to("b")}}} { // gone; a namesake
		a.Set(ways, w.now)
		if _, err := a.Receive("b", answer, 60, w.now); !errors.Is(err, path.ErrStale) {
			t.Errorf("%+v: %v", ways, err)
		}
	}
}

func TestKey(t *testing.T) {
	if path.Key([]byte("x")) == path.Key([]byte("y")) || path.Key(nil) == path.Key([]byte("x")) {
		t.Error("two keys are one")
	}
	if path.Key(nil) != path.Key([]byte{}) {
		t.Error("no key is two")
	}
}

// Whatever comes: no panic, no answer larger than its request, and of what is taken
// no bit but padding can be another.
func FuzzReceive(f *testing.F) {
	w, probe, answer := exchange(f)
	f.Add(probe.Message, probe.Size)
	f.Add(append(bytes.Clone(probe.Message), 0, 0), probe.Size)
	f.Add(answer, 60)
	f.Add([]byte{1, 1}, 0)
	f.Add([]byte{}, -1)
	f.Fuzz(func(t *testing.T, message []byte, size int) {
		for from, n := range map[string]*node{"a": w.nodes["b"], "b": w.nodes["a"], "c": w.nodes["b"]} {
			w.now = w.now.Add(time.Millisecond) // within the limits of what is answered
			got, err := n.Receive(from, message, size, w.now)
			if len(got) > len(message) {
				t.Fatalf("%d bytes answered by %d", len(message), len(got))
			}
			if err != nil {
				continue
			}
			bit := len(message) * 31 % (8 * path.MessageLen)
			other := bytes.Clone(message)
			other[bit/8] ^= 1 << (bit % 8)
			if _, err := n.Receive(from, other, size, w.now); err == nil {
				t.Fatalf("%x of %s is taken, and with bit %d changed too", message, from, bit)
			}
		}
	})
}
