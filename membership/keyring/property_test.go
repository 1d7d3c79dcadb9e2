package keyring

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/weft-net/weft/membership"
)

// world is nodes that hear of each other's rings and records late, in any order, or never.
type world struct {
	nodes []*node
	rings [][]byte // every message that was ever spread
}

type node struct {
	*Keyring
	// seen is the newest list of each node that this one has heard of, by number, and when it was made.
	seen map[int]list
	made int // lists
}

type list struct {
	number int
	keys   []string
}

// newWorld returns nodes that have one key and know each other's lists.
func newWorld(identities []membership.Identity) *world {
	w := &world{}
	for _, id := range identities {
		k := newKeyring(id, alone(fileKey), func(state) error { return nil })
		w.nodes = append(w.nodes, &node{Keyring: k, seen: make(map[int]list)})
	}
	for i := range w.nodes {
		w.announce(i)
		for j := range w.nodes {
			w.tell(i, j)
		}
	}
	return w
}

var fileKey = []byte("0123456789abcdef")

func identities(n int) []membership.Identity {
	ids := make([]membership.Identity, n)
	for i := range ids {
		id, err := membership.NewIdentity()
		if err != nil {
			panic(err)
		}
		ids[i] = id
	}
	return ids
}

// announce is node i's record: what it reads, after it reads it.
func (w *world) announce(i int) {
	n := w.nodes[i]
	n.made++
	n.seen[i] = list{n.made, Fingerprints(n.Keys())}
}

// tell carries the record of i to j, as i has it now.
func (w *world) tell(i, j int) {
	if l := w.nodes[i].seen[i]; l.number > w.nodes[j].seen[i].number {
		w.nodes[j].seen[i] = l
	}
}

// choose is what node i does when anything has changed.
func (w *world) choose(t *rapid.T, i int) {
	n := w.nodes[i]
	var listed [][]string
	for j, l := range n.seen {
		if j != i {
			listed = append(listed, l.keys)
		}
	}
	if _, err := n.Choose(listed); err != nil {
		t.Fatal(err)
	}
	w.announce(i)
}

func (w *world) spread(i int) {
	if m := w.nodes[i].Message(); m != nil && !slices.ContainsFunc(w.rings, func(o []byte) bool { return bytes.Equal(o, m) }) {
		w.rings = append(w.rings, m)
	}
}

func (w *world) deliver(t *rapid.T, message []byte, to int) {
	if err := w.nodes[to].Merge(message); err != nil {
		t.Fatal(err)
	}
	w.spread(to)
}

// removable says whether node i may remove the key: all send by the newest.
func (w *world) removable(i int) bool {
	newest := Fingerprint(w.nodes[i].Ring().Keys[0])
	for _, l := range w.nodes[i].seen {
		if l.keys[0] != newest {
			return false
		}
	}
	return true
}

// inContact says whether everybody reads what everybody sends.
func (w *world) inContact(t *rapid.T) {
	for i, from := range w.nodes {
		for j, to := range w.nodes {
			sends := from.Keys()[0]
			if !slices.ContainsFunc(to.Keys(), func(k []byte) bool { return bytes.Equal(k, sends) }) {
				t.Fatalf("node %d sends by %s, and %d reads %v", i, Fingerprint(sends), j, Fingerprints(to.Keys()))
			}
		}
	}
}

// Rings and records arrive in any order, while keys are rotated and removed anywhere: nobody ever
// sends what another cannot read, and when all has arrived all are of one mind.
func TestNobodyLosesContact(t *testing.T) {
	ids := identities(4)
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(ids[:rapid.IntRange(1, 4).Draw(t, "nodes")])
		pick := func(what string) int { return rapid.IntRange(0, len(w.nodes)-1).Draw(t, what) }
		t.Repeat(map[string]func(*rapid.T){
			"": w.inContact,
			"rotate": func(t *rapid.T) {
				i := pick("by")
				if len(w.nodes[i].Keys()) >= 4 {
					t.Skip("enough keys")
				}
				if _, err := w.nodes[i].Rotate(); err != nil {
					t.Fatal(err)
				}
				w.spread(i)
			},
			"remove": func(t *rapid.T) {
				i := pick("by")
				keys := w.nodes[i].Ring().Keys
				if len(keys) < 2 || !w.removable(i) {
					t.Skip("nothing to remove")
				}
				if err := w.nodes[i].Remove(Fingerprint(keys[rapid.IntRange(1, len(keys)-1).Draw(t, "key")])); err != nil {
					t.Fatal(err)
				}
				w.spread(i)
			},
			"ring arrives": func(t *rapid.T) {
				if len(w.rings) == 0 {
					t.Skip("none")
				}
				w.deliver(t, w.rings[rapid.IntRange(0, len(w.rings)-1).Draw(t, "ring")], pick("to"))
			},
			"record arrives": func(t *rapid.T) { w.tell(pick("from"), pick("to")) },
			"choose":         func(t *rapid.T) { w.choose(t, pick("node")) },
		})
		w.settle(t)
		w.inContact(t)
		w.agree(t)
	})
}

// settle has all that was said arrive everywhere.
func (w *world) settle(t *rapid.T) {
	for range 10 {
		for r := 0; r < len(w.rings); r++ { // which grows where rings are overtaken
			for to := range w.nodes {
				w.deliver(t, w.rings[r], to)
			}
		}
		for i := range w.nodes {
			w.choose(t, i)
			for j := range w.nodes {
				w.tell(i, j)
			}
		}
	}
}

// agree says that all have one ring, and send by its newest key.
func (w *world) agree(t *rapid.T) {
	messages := make(map[string]bool)
	for i, n := range w.nodes {
		messages[string(n.Message())] = true
		if sends := Fingerprint(n.Keys()[0]); sends != Fingerprint(n.Ring().Keys[0]) {
			t.Fatalf("node %d sends by %s, of %v", i, sends, Fingerprints(n.Ring().Keys))
		}
	}
	if len(messages) != 1 {
		t.Fatalf("%d rings", len(messages))
	}
}

// The same rings come to one state in any order.
func TestMergesConverge(t *testing.T) {
	ids := identities(5)
	rapid.Check(t, func(t *rapid.T) {
		var messages [][]byte
		for i := range rapid.IntRange(1, 6).Draw(t, "rings") {
			r := Ring{Version: rapid.Uint64Range(1, 3).Draw(t, "version"), Keys: [][]byte{fileKey, fmt.Appendf(nil, "key %12d", i)}}
			r, err := seal(ids[rapid.IntRange(0, 3).Draw(t, "by")], r)
			if err != nil {
				t.Fatal(err)
			}
			messages = append(messages, r.message)
		}
		var last []byte
		for range 2 {
			k := newKeyring(ids[4], alone(fileKey), func(state) error { return nil })
			for _, m := range rapid.Permutation(messages).Draw(t, "order") {
				if err := k.Merge(m); err != nil {
					t.Fatal(err)
				}
			}
			if last != nil && !bytes.Equal(last, k.Message()) {
				t.Fatal("another order, another ring")
			}
			last = k.Message()
		}
	})
}
