// Package offload names what the kernel can do for the packet path, so that the
// packages that try each thing, the configuration that switches it off and the
// status that shows it speak of the same. Standard library only.
package offload

import (
	"fmt"
	"slices"
	"strings"
)

// Feature is one thing that the kernel, or a peer, does instead of weft.
type Feature uint8

const (
	TSO Feature = iota
	USO
	GSO
	GRO
	RCO

	features
)

// Immutable.
var facts = [features]struct{ name, explanation string }{
	TSO: {"tso", "the TUN hands over and takes TCP superpackets"},
	USO: {"uso", "the TUN hands over and takes UDP superpackets (Linux 6.2)"},
	GSO: {"gso", "one send carries many datagrams (UDP_SEGMENT, Linux 4.18)"},
	GRO: {"gro", "one receive takes many datagrams (UDP_GRO, Linux 5.0)"},
	RCO: {"rco", "checksums of pod packets are left to the far kernel (remote checksum offload), with peers that do so too"},
}

// String is the feature's name.
func (f Feature) String() string { return facts[f].name }

// Explanation says in a few words what the feature does.
func (f Feature) Explanation() string { return facts[f].explanation }

// Features are all features, in the order of their values.
func Features() []Feature {
	all := make([]Feature, features)
	for i := range all {
		all[i] = Feature(i)
	}
	return all
}

// Parse finds a feature by its name.
func Parse(name string) (Feature, error) {
	var names []string
	for _, f := range Features() {
		if f.String() == name {
			return f, nil
		}
		names = append(names, f.String())
	}
	return 0, fmt.Errorf("no feature %q: there are %s", name, strings.Join(names, ", "))
}

// Set is a set of features. The zero Set is empty.
type Set uint8

const _ = uint(8 - features) // fails to compile where a Set has too few bits

// All is every feature.
const All Set = 1<<features - 1

// Of is the set of the given features.
func Of(fs ...Feature) (s Set) {
	for _, f := range fs {
		s |= 1 << f
	}
	return s
}

// Has says whether f is in the set.
func (s Set) Has(f Feature) bool { return s>>f&1 == 1 }

// Without is the set without the features of other.
func (s Set) Without(other Set) Set { return s &^ other }

// String lists the names, in the order of the features' values.
func (s Set) String() string {
	names := slices.DeleteFunc(Features(), func(f Feature) bool { return !s.Has(f) })
	return strings.Trim(fmt.Sprint(names), "[]")
}
