package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/dataplane/host"
)

func TestRepairs(t *testing.T) {
	var log bytes.Buffer
	var r repairs
	lines := func() int {
		defer log.Reset()
		return strings.Count(log.String(), "\n")
	}
	began := time.Now()
	flushed := []host.Repair{{Kind: host.KindRoute, What: "route a"}, {Kind: host.KindRoute, What: "route b"}, {Kind: host.KindLink, What: "up on interface weft0"}}
	r.addHost(quiet(&log), flushed, began)
	if said := log.String(); !strings.Contains(said, `what="route a" more=1`) || lines() != 2 {
		t.Errorf("said %s, want a line for each kind", said)
	}

	// Another program means it.
	for i := range 1000 {
		if fights := r.fights(began); (len(fights) > 0) != (i >= fightRepairs) {
			t.Fatalf("after %d repairs: %q", i, fights)
		}
		r.add(quiet(&log), began.Add(time.Duration(i)*time.Millisecond), repair{kindFirewall, "nftables table inet weft"})
	}
	if n := lines(); n != repairsAtOnce {
		t.Errorf("%d lines at once, want %d", n, repairsAtOnce)
	}
	later := began.Add(2 * repairInterval)
	r.add(quiet(&log), later, repair{kindFirewall, "nftables table inet weft"})
	if n := lines(); n != 1 {
		t.Errorf("%d lines later, want 1", n)
	}
	if fights := r.fights(later.Add(fightWindow)); len(fights) > 0 {
		t.Errorf("a fight that is over: %q", fights)
	}
	counts := r.counts()
	for kind, want := range map[string]uint64{"route": 2, "link": 1, "firewall": 1001, "guard": 0} {
		if got, known := counts[kind]; !known || got != want {
			t.Errorf("%s: %d, want %d", kind, got, want)
		}
	}
	if len(counts) != len(repairKinds()) {
		t.Errorf("kinds %v", counts)
	}
}

// Names that others choose, such as those of interfaces, take no memory without end.
func TestRepairsAreBounded(t *testing.T) {
	var log bytes.Buffer
	var r repairs
	now := time.Now()
	for i := range 3 * maxMended {
		r.add(quiet(&log), now, repair{kindLink, fmt.Sprint(i)})
	}
	if len(r.of) > maxMended || r.counts()["link"] != 3*maxMended {
		t.Errorf("%d remembered of %d", len(r.of), r.counts()["link"])
	}
}
