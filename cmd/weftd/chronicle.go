package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/time/rate"

	"github.com/weft-net/weft/membership"
)

// A member's first changes are said at once, a restart is some four of them. One that
// flaps, or is made to by someone who forges its records, is said at intervals.
const (
	newsAtOnce   = 6
	newsInterval = 10 * time.Second
)

// chronicle logs what becomes of the members. It belongs to one goroutine.
type chronicle struct {
	log     *slog.Logger
	members map[membership.ID]*news
}

// news is what was seen of a member, and what was said of it.
type news struct {
	seen, said string
	unsaid     int // changes that were seen since
	limit      *rate.Limiter
}

func newChronicle(log *slog.Logger) *chronicle {
	return &chronicle{log: log, members: make(map[membership.ID]*news)}
}

// tell logs each member that is another than was said, once. What is withheld is left
// to a later call, and the state that is logged then is that of then.
func (c *chronicle) tell(view *membership.View, at time.Time) {
	present := make(map[membership.ID]*news, len(c.members))
	for _, m := range append([]membership.Member{view.Self}, view.Members...) {
		n := c.members[m.ID]
		if n == nil {
			n = &news{limit: rate.NewLimiter(rate.Every(newsInterval), newsAtOnce)}
		}
		present[m.ID] = n
		if now := fmt.Sprint(m.State, " ", m.Reason); now != n.seen {
			n.seen = now
			n.unsaid++
		}
		if n.seen != n.said && n.limit.AllowN(at, 1) {
			c.line(&m, n.unsaid)
			n.said, n.unsaid = n.seen, 0
		}
	}
	c.members = present
}

func (c *chronicle) line(m *membership.Member, changes int) {
	level := slog.LevelInfo
	switch m.State {
	case membership.StateFenced, membership.StateRefused, membership.StateReplaced:
		level = slog.LevelWarn
	}
	args := []any{"node", m.Name, "state", m.State, "blocks", m.Prefixes}
	if m.Reason != "" {
		args = append(args, "reason", m.Reason)
	}
	if changes > 1 {
		args = append(args, "changes", changes)
	}
	c.log.Log(context.Background(), level, "member", args...)
}
