package main

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/weft-net/weft/dataplane/host"
)

// Kinds of repairs beside those of package host.
const (
	kindLink     = string(host.KindLink)
	kindFirewall = "firewall"
	kindGuard    = "guard" // of a pod
)

// repairKinds are all kinds.
func repairKinds() []string {
	return []string{kindLink, string(host.KindAddress), string(host.KindRoute), string(host.KindRule), string(host.KindSysctl), kindFirewall, kindGuard}
}

const (
	// A thing that is put back is said at once, the first times, and then at intervals: two
	// programs that undo each other's work do it many times a second.
	repairsAtOnce  = 3
	repairInterval = time.Minute

	// fightRepairs of one thing within fightWindow are somebody who means it.
	fightRepairs = 5
	fightWindow  = 10 * time.Minute

	// maxMended bounds what is remembered one by one.
	maxMended = 1000
)

// repair is one thing of weft's that another program took or changed, and that was put back.
type repair struct{ kind, what string }

// repairs count what was put back, and say it. They may be used concurrently; the zero value is
// ready.
type repairs struct {
	mu    sync.Mutex
	total map[string]uint64 // by kind
	of    map[repair]*mended
}

// mended is how often one thing was put back.
type mended struct {
	times []time.Time // the last fightRepairs
	limit *rate.Limiter
}

// add counts what was put back together, and logs a line for each kind, but for what was just
// said.
func (r *repairs) add(log *slog.Logger, now time.Time, all ...repair) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.of == nil {
		r.total, r.of = make(map[string]uint64), make(map[repair]*mended)
	}
	said := make(map[string][]string)
	for _, one := range all {
		r.total[one.kind]++
		if r.count(one, now) {
			said[one.kind] = append(said[one.kind], one.what)
		}
	}
	for _, kind := range slices.Sorted(maps.Keys(said)) {
		args := []any{"what", said[kind][0]}
		if more := len(said[kind]) - 1; more > 0 {
			args = append(args, "more", more)
		}
		log.Warn("another program changed what is weft's; it is put back", args...)
	}
}

// addHost is add for what Apply of package host put back.
func (r *repairs) addHost(log *slog.Logger, repaired []host.Repair, now time.Time) {
	all := make([]repair, len(repaired))
	for i, one := range repaired {
		all[i] = repair{string(one.Kind), one.What}
	}
	r.add(log, now, all...)
}

// count is add for one thing, and says whether to log it.
func (r *repairs) count(one repair, now time.Time) bool {
	m := r.of[one]
	if m == nil {
		r.makeRoom(now)
		m = &mended{limit: rate.NewLimiter(rate.Every(repairInterval), repairsAtOnce)}
		r.of[one] = m
	}
	if m.times = append(m.times, now); len(m.times) > fightRepairs {
		m.times = slices.Delete(m.times, 0, 1)
	}
	return m.limit.AllowN(now, 1)
}

// makeRoom forgets what was put back long ago, or else everything.
func (r *repairs) makeRoom(now time.Time) {
	if len(r.of) < maxMended {
		return
	}
	maps.DeleteFunc(r.of, func(_ repair, m *mended) bool { return now.Sub(m.times[len(m.times)-1]) > fightWindow })
	if len(r.of) >= maxMended {
		clear(r.of)
	}
}

// counts are the numbers of repairs since the start, by kind; every kind is present. The map is
// the caller's.
func (r *repairs) counts() map[string]uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	counts := make(map[string]uint64)
	for _, kind := range repairKinds() {
		counts[kind] = r.total[kind]
	}
	return counts
}

// fights has one line for each thing that another program takes or changes again and again.
func (r *repairs) fights(now time.Time) (lines []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for what, m := range r.of {
		if len(m.times) == fightRepairs && now.Sub(m.times[0]) < fightWindow {
			lines = append(lines, fmt.Sprintf("another program keeps changing what is weft's: %s was put back at least %d times within %s; find that program, and tell it to leave weft's alone",
				what.what, fightRepairs, fightWindow))
		}
	}
	slices.Sort(lines)
	return lines
}
