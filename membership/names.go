package membership

import (
	"fmt"
	"slices"
	"strings"
)

// SameNames says in one line each, sorted, which names two or more nodes have, this one
// among them. Names decide nothing, but people go by them. What left or was
// replaced does not count: a machine that was installed anew has its former name.
func (v View) SameNames() []string {
	named := make(map[string][]ID)
	for _, m := range append([]Member{v.Self}, v.Members...) {
		if m.Name != "" && m.State != StateLeft && m.State != StateReplaced {
			named[m.Name] = append(named[m.Name], m.ID)
		}
	}
	var lines []string
	for name, ids := range named {
		if len(ids) > 1 {
			lines = append(lines, sameName(name, ids))
		}
	}
	slices.Sort(lines)
	return lines
}

// sameNameShown bounds a line: a cloned image may have named all nodes alike.
const sameNameShown = 4

func sameName(name string, ids []ID) string {
	slices.SortFunc(ids, ID.Compare)
	var shown []string
	for _, id := range ids[:min(len(ids), sameNameShown)] {
		shown = append(shown, id.Short())
	}
	if more := len(ids) - len(shown); more > 0 {
		shown = append(shown, fmt.Sprintf("and %d more", more))
	}
	return fmt.Sprintf("%d nodes are named %s (%s): give each its own nodeName", len(ids), name, strings.Join(shown, ", "))
}
