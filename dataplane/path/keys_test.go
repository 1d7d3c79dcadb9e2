package path_test

import (
	"errors"
	"testing"

	"github.com/weft-net/weft/dataplane/path"
)

// While keys change, messages made with any of them are taken, and each node makes its
// own with the first of its own.
func TestSetKeys(t *testing.T) {
	w := pair(t, 1, link{mtu: 1500}, 1500)
	a, b := w.nodes["a"], w.nodes["b"]
	old, key := path.Key([]byte("secret")), path.Key([]byte("next"))
	for _, step := range []struct {
		a, b [][32]byte
		ok   bool
	}{
		{[][32]byte{old}, [][32]byte{old, key}, true},
		{[][32]byte{old, key}, [][32]byte{key, old}, true},
		{[][32]byte{key, old}, [][32]byte{key, old}, true},
		{[][32]byte{key}, [][32]byte{key, old}, true},
		{[][32]byte{key}, [][32]byte{old}, false},
	} {
		a.SetKeys(step.a...)
		b.SetKeys(step.b...)
		probe, _, _ := a.Ping(to("b"), w.now)
		answer, err := b.Receive("a", probe.Message, probe.Size, w.now)
		if !step.ok {
			if !errors.Is(err, path.ErrForged) {
				t.Errorf("a key that was removed is taken: %v", err)
			}
			continue
		}
		if err != nil {
			t.Fatalf("%v: %v", step, err)
		}
		if _, err := a.Receive("b", answer, 60, w.now); err != nil {
			t.Errorf("%v: the answer: %v", step, err)
		}
	}
}
