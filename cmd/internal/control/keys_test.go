package control

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func (b backend) Keys() (KeyList, error)      { return b.keys("list", false) }
func (b backend) RotateKey() (KeyList, error) { return b.keys("rotate", false) }
func (b backend) RemoveKey(fingerprint string, force bool) (KeyList, error) {
	return b.keys(fingerprint, force)
}
func (b backend) ExportKey() (GossipKey, error) { return GossipKey{"c2VjcmV0", "1a2b3c4d"}, nil }

func TestKeys(t *testing.T) {
	full := KeyList{Keys: []string{"1a2b3c4d", "9f8e7d6c"}, InUse: "9f8e7d6c", Nodes: []KeyNode{
		{Node{"a", "node1"}, PeerUp, []string{"9f8e7d6c", "1a2b3c4d"}}, {Node{"b", "node2"}, PeerDown, []string{}},
	}}
	var asked []any
	b := backend{keys: func(what string, force bool) (KeyList, error) {
		asked = append(asked, what, force)
		if what == "x&force=true" {
			return KeyList{}, errors.New("no such key")
		}
		return full, nil
	}}
	c := serve(t, Handler(b))
	var got [4]KeyList
	var errs [4]error
	got[0], errs[0] = c.Keys(t.Context())
	got[1], errs[1] = c.RotateKey(t.Context())
	got[2], errs[2] = c.RemoveKey(t.Context(), "1a2b3c4d", false)
	got[3], errs[3] = c.RemoveKey(t.Context(), "1a2b3c4d", true)
	for i := range got {
		if errs[i] != nil || !cmp.Equal(got[i], full) {
			t.Errorf("%d: %+v, %v", i, got[i], errs[i])
		}
	}
	if want := []any{"list", false, "rotate", false, "1a2b3c4d", false, "1a2b3c4d", true}; !cmp.Equal(asked, want) {
		t.Errorf("asked %v", asked)
	}
	if _, err := c.RemoveKey(t.Context(), "x&force=true", false); err == nil || err.Error() != "weftd: no such key" {
		t.Errorf("got %v", err)
	}
	if key, err := c.ExportKey(t.Context()); err != nil || key != (GossipKey{"c2VjcmV0", "1a2b3c4d"}) {
		t.Errorf("got %v, %v", key, err)
	}
	if l := (KeyList{Nodes: []KeyNode{{}}}).complete(); l.Keys == nil || l.Nodes[0].Keys == nil {
		t.Error("null in JSON")
	}
	reads := full.Without(func(n KeyNode) bool { return n.Reads("1a2b3c4d") })
	sends := full.Without(func(n KeyNode) bool { return n.Sends("1a2b3c4d") })
	if len(reads) != 1 || reads[0].Name != "node2" || len(sends) != 2 || len(full.Nodes) != 2 {
		t.Errorf("%v do not read it, %v do not send by it", reads, sends)
	}
}
