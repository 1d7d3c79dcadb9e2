package dataplane

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/weft-net/weft/dataplane/offload"
	"github.com/weft-net/weft/encap"
)

// A worker that sleeps is well, and one that is caught in a call is not, until it comes back.
func TestStuckWorkerIsFound(t *testing.T) {
	const patience = time.Second
	release := make(chan struct{})
	sleeps := &replay{full: -1}
	caught := &replay{full: -1, receivers: []encap.Receiver{{FD: -1}}}
	caught.recv = func(int, []encap.Received) int {
		<-release
		return 0
	}
	e := New([]Pair{{Queue: sleeps, Wire: sleeps}, {Queue: caught, Wire: caught}}, offload.All)
	if stuck := e.Stuck(0); stuck != nil {
		t.Errorf("before they run workers %v are stuck", stuck)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()

	until := func(what string, want []int) {
		t.Helper()
		look := time.NewTicker(20 * time.Millisecond)
		defer look.Stop()
		for deadline := time.Now().Add(20 * time.Second); ; <-look.C {
			stuck := e.Stuck(patience)
			if slices.Contains(stuck, 0) {
				t.Fatalf("%s: the worker that sleeps is said to be stuck", what)
			}
			if slices.Equal(stuck, want) {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: workers %v are stuck, want %v", what, stuck, want)
			}
		}
	}
	until("one is caught", []int{1})
	close(release)
	until("it came back", nil)

	before := e.workers[0].turns.Load()
	e.Stuck(patience)
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for deadline := time.Now().Add(20 * time.Second); e.workers[0].turns.Load() == before; <-look.C {
		if time.Now().After(deadline) {
			t.Fatal("a worker that sleeps was not woken")
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if stuck := e.Stuck(0); stuck != nil {
		t.Errorf("after they ran workers %v are stuck", stuck)
	}
}
