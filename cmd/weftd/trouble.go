package main

import (
	"log/slog"
	"maps"
	"slices"
	"sync"
)

// What the daemon lives on with.
const (
	troubleSave = "the peers cannot be saved, so that a restart would not know them"
	troubleHost = "the kernel's state is not what it should be, and could not be brought back"

	troubleFirewall = "weft's own firewall rules could not be put in place"
	// troubleMasquerade stays until a restart, since no kernel learns it meanwhile.
	troubleMasquerade = "pods do not leave the pod network under this node's address"
	troubleStatic     = "a static peer is left out"
)

// trouble is what goes wrong at the moment, by kind. It may be used concurrently;
// the zero value is ready.
type trouble struct {
	mu  sync.Mutex
	now map[string]string
}

// say takes the present outcome of something done again and again, and logs it when
// it is news: once when it fails, or fails otherwise, and once when it works again.
func (t *trouble) say(log *slog.Logger, kind string, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	was := t.now[kind]
	switch {
	case err != nil && err.Error() != was:
		if t.now == nil {
			t.now = make(map[string]string)
		}
		t.now[kind] = err.Error()
		log.Error(kind, "reason", err)
	case err == nil && was != "":
		delete(t.now, kind)
		log.Info("works again", "after", kind)
	}
}

// of returns what is wrong of a kind, or "".
func (t *trouble) of(kind string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.now[kind]
}

// list returns one line for each trouble.
func (t *trouble) list() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var lines []string
	for _, kind := range slices.Sorted(maps.Keys(t.now)) {
		lines = append(lines, kind+": "+t.now[kind])
	}
	return lines
}
