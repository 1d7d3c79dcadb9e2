package main

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/membership"
)

func newsOf(state membership.State) *membership.View {
	return &membership.View{
		Self:    testMember("n1", "198.51.100.1:8285", membership.StateUp),
		Members: []membership.Member{testMember("n2", "198.51.100.2:8285", state)},
	}
}

func TestChangesAreSaidOnce(t *testing.T) {
	var log strings.Builder
	c, at := newChronicle(slog.New(slog.NewTextHandler(&log, nil))), time.Now()
	for _, state := range []membership.State{membership.StateUp, membership.StateDown} {
		c.tell(newsOf(state), at)
		c.tell(newsOf(state), at)
	}
	if n := strings.Count(log.String(), "\n"); n != 3 {
		t.Errorf("%d lines, want 3:\n%s", n, log.String())
	}
}

// A member that flaps fills no log, and what it has become in the end is said.
func TestFlappingIsSaidAtIntervals(t *testing.T) {
	var log strings.Builder
	c, at := newChronicle(slog.New(slog.NewTextHandler(&log, nil))), time.Now()
	for i := range 1000 {
		state := membership.StateUp
		if i%2 == 1 {
			state = membership.StateRefused
		}
		c.tell(newsOf(state), at)
	}
	if n := strings.Count(log.String(), "\n"); n != 1+newsAtOnce {
		t.Errorf("%d lines, want %d:\n%s", n, 1+newsAtOnce, log.String())
	}
	log.Reset()
	c.tell(newsOf(membership.StateDown), at.Add(newsInterval))
	if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "state=down") || !strings.Contains(got, "changes=995") {
		t.Errorf("later: %q", got)
	}
}
