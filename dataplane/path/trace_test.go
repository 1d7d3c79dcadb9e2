package path_test

import (
	"errors"
	"testing"
	"time"

	"github.com/weft-net/weft/dataplane/path"
)

func TestAsk(t *testing.T) {
	w, _, _ := exchange(t)
	a, b := w.nodes["a"], w.nodes["b"]
	const marker = 0x0123456789abcdef
	q := a.Ask("b", marker)
	if len(q) != path.MessageLen {
		t.Errorf("a question has %d bytes", len(q))
	}
	if _, err := b.Receive("a", q, 60, w.now); !errors.Is(err, path.ErrMalformed) {
		t.Errorf("a node that does not look: %v", err)
	}
	seen := path.Watching | path.Arrived
	b.Observe(func(peer string, about uint64, now time.Time) path.Sighting {
		if peer != "a" || about != marker || now != w.now {
			t.Errorf("asked by %s about %x", peer, about)
		}
		return seen
	})
	for _, seen = range []path.Sighting{seen, seen | path.Delivered, path.Sighting(0).With(0xfffe)} {
		answer, err := b.Receive("a", q, 60, w.now)
		if err != nil || len(answer) > len(q) {
			t.Fatalf("answer %x, %v", answer, err)
		}
		if _, err := a.Receive("c", answer, 60, w.now); err == nil {
			t.Error("b's answer is taken for another's")
		}
		if _, err := a.Receive("b", answer, 60, w.now); err != nil {
			t.Fatal(err)
		}
		if got, ok := a.Heard(marker); !ok || got != seen {
			t.Errorf("heard %x, %v, want %x", got, ok, seen)
		}
	}
	if s := path.Watching.With(0xfffe); !s.Has(path.Watching|path.Dropped) || s.Has(path.Arrived) || s.Reason() != 0xfffe {
		t.Errorf("%x", s)
	}
	answer, err := b.Receive("a", q, 60, w.now)
	if err != nil {
		t.Fatal(err)
	}
	a.Unask(marker)
	if _, err := a.Receive("b", answer, 60, w.now); !errors.Is(err, path.ErrStale) {
		t.Errorf("an answer that nobody waits for: %v", err)
	}
	if _, ok := a.Heard(marker); ok {
		t.Error("still asked")
	}
}

func TestQuestionsAreLimited(t *testing.T) {
	w, _, _ := exchange(t)
	a, b := w.nodes["a"], w.nodes["b"]
	asked := 0
	b.Observe(func(string, uint64, time.Time) path.Sighting { asked++; return 0 })
	q := a.Ask("b", 1)
	for range 5000 {
		_, _ = b.Receive("a", q, 60, w.now)
	}
	if asked == 0 || asked > 1000 {
		t.Errorf("%d of 5000 questions at once are answered", asked)
	}
}
