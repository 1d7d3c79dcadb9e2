package membership

import (
	"fmt"
	"reflect"
	"testing"
)

// Names that several nodes have are said, those of nodes that are no more are not.
func TestSameNames(t *testing.T) {
	member := func(n byte, name string, state State) Member {
		return Member{Record: Record{ID: identity(n).ID, Description: Description{Name: name}}, State: state}
	}
	short := func(n byte) string { return identity(n).ID.Short() }
	ordered := func(a, b byte) string {
		if identity(a).ID.Compare(identity(b).ID) > 0 {
			a, b = b, a
		}
		return short(a) + ", " + short(b)
	}
	v := View{Self: member(1, "a", StateUp), Members: []Member{
		member(2, "a", StateDown), member(3, "b", StateUp), member(4, "b", StateReplaced), member(5, "c", StateLeft), member(6, "c", StateUp),
		member(7, "d", StateUp), member(8, "d", StateRefused), member(9, "", StateUp), member(10, "", StateUp),
	}}
	want := []string{
		"2 nodes are named a (" + ordered(1, 2) + "): give each its own nodeName",
		"2 nodes are named d (" + ordered(7, 8) + "): give each its own nodeName",
	}
	if got := v.SameNames(); !reflect.DeepEqual(got, want) {
		t.Errorf("%q; want %q", got, want)
	}
	var many View
	for n := range byte(20) {
		many.Members = append(many.Members, member(n, "image", StateUp))
	}
	if got := many.SameNames(); len(got) != 1 || len(got[0]) > 120 {
		t.Errorf("20 of one name: %q", got)
	}
	if got := fmt.Sprint(View{}.SameNames()); got != "[]" {
		t.Errorf("nobody: %s", got)
	}
}
