package gossip

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weft-net/weft/membership"
)

// ErrNoAnswer is wrapped by Sync when nobody answered.
var ErrNoAnswer = errors.New("no other node answered")

// ErrKeyMismatch is wrapped by Sync when one that was asked has another gossip key.
var ErrKeyMismatch = errors.New("the gossip keys differ")

const (
	dialers    = 16 // dials under way at once
	dialSample = 32 // members dialled in one round
)

// name is one entry of the join list.
type name struct {
	host string
	port uint16
}

func (n name) String() string { return net.JoinHostPort(n.host, strconv.Itoa(int(n.port))) }

// parseNames reads "host", "host:port", "v6" and "[v6]:port".
func parseNames(list []string, port uint16) ([]name, error) {
	var names []name
	for _, s := range list {
		n := name{host: strings.Trim(s, "[]"), port: port}
		if _, err := netip.ParseAddr(n.host); err != nil && strings.Contains(s, ":") {
			host, text, err := net.SplitHostPort(s)
			if err != nil {
				return nil, fmt.Errorf("join %q: want host or host:port: %w", s, err)
			}
			p, err := strconv.ParseUint(text, 10, 16)
			if err != nil || p == 0 {
				return nil, fmt.Errorf("join %q: port %q is not a port number", s, text)
			}
			n = name{host: host, port: uint16(p)}
		}
		if n.host == "" {
			return nil, fmt.Errorf("join %q: no host", s)
		}
		names = append(names, n)
	}
	return names, nil
}

// SetJoin replaces Config.Join; those that are in no other way known are dialled within 30 s. On an
// error it stays.
func (g *Gossip) SetJoin(list []string) error {
	names, err := parseNames(list, g.addr.Port())
	if err != nil {
		return err
	}
	g.join.Store(&names)
	return nil
}

// resolve returns the addresses of the join names now, in the family that this node
// gossips in and without its own, and an error for each name that has none.
func (g *Gossip) resolve(ctx context.Context) (addrs []netip.AddrPort, errs []error) {
	for _, answer := range g.lookUp(ctx) {
		if answer.err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", answer.name, answer.err))
		}
		for _, ip := range answer.ips {
			if ap := netip.AddrPortFrom(ip.Unmap(), answer.port); !g.own(ap) && !slices.Contains(addrs, ap) {
				addrs = append(addrs, ap)
			}
		}
	}
	return addrs, errs
}

// answer is what a join name resolves to.
type answer struct {
	name
	ips []netip.Addr
	err error
}

// lookUp resolves the join names, in the family that this node gossips in.
func (g *Gossip) lookUp(ctx context.Context) []answer {
	family := "ip4"
	if g.addr.Addr().Is6() {
		family = "ip6"
	}
	ctx, cancel := context.WithTimeout(ctx, g.timing.resolve)
	defer cancel()
	join := *g.join.Load()
	answers := make([]answer, len(join))
	var wg sync.WaitGroup
	for i, n := range join { // at once, since each may take the whole time
		wg.Go(func() {
			answers[i].name = n
			answers[i].ips, answers[i].err = g.resolver.LookupNetIP(ctx, family, n.host)
		})
	}
	wg.Wait()
	return answers
}

// own says whether ap is this node. A host's own name often resolves to loopback.
func (g *Gossip) own(ap netip.AddrPort) bool {
	return ap == g.addr || ap.Port() == g.addr.Port() && ap.Addr().IsLoopback() && !g.addr.Addr().IsLoopback()
}

// missing returns where the known members gossip that are neither alive nor left,
// in random order, and how many members are known.
func (g *Gossip) missing() (addrs []netip.AddrPort, known int) {
	v := g.store.View(time.Now())
	seen := make(map[netip.AddrPort]bool)
	for _, m := range v.Members {
		if m.State == membership.StateLeft {
			continue
		}
		known++
		if !m.Alive && m.Gossip.IsValid() && !g.own(m.Gossip) && !seen[m.Gossip] {
			seen[m.Gossip] = true
			addrs = append(addrs, m.Gossip)
		}
	}
	rand.Shuffle(len(addrs), func(i, j int) { addrs[i], addrs[j] = addrs[j], addrs[i] })
	return addrs, known
}

// without returns addrs less those at which a member is alive.
func (g *Gossip) without(addrs []netip.AddrPort) []netip.AddrPort {
	g.mu.Lock()
	defer g.mu.Unlock()
	alive := make(map[netip.AddrPort]bool, len(g.peers))
	for _, a := range g.peers {
		alive[a] = true
	}
	return slices.DeleteFunc(addrs, func(a netip.AddrPort) bool { return alive[a] })
}

// Sync asks every join name and every known member once, and returns as soon as one
// answered with a full exchange: then the store holds what that node knew. With
// nobody to ask it returns nil. An error says who failed how;
// it wraps ErrNoAnswer, and ErrKeyMismatch where that is a reason.
func (g *Gossip) Sync(ctx context.Context) error {
	addrs, errs := g.resolve(ctx)
	known, _ := g.missing()
	for _, a := range known {
		if !slices.Contains(addrs, a) {
			addrs = append(addrs, a)
		}
	}
	if len(addrs) == 0 && len(errs) == 0 {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx) // on return, no further dials begin
	defer cancel()
	results := g.dial(ctx, addrs)
	for range addrs {
		select {
		case err := <-results:
			if err == nil {
				return nil
			}
			errs = append(errs, err)
		case <-ctx.Done():
			errs = append(errs, fmt.Errorf("%s: %w", joined(addrs), context.Cause(ctx)))
			return fmt.Errorf("join the cluster: %w", &unanswered{errs})
		case <-g.closed:
			return fmt.Errorf("join the cluster: %w", net.ErrClosed)
		}
	}
	return fmt.Errorf("join the cluster: %w", &unanswered{errs})
}

// Gathered says whether a member is alive at an address of every join name that is not
// this machine, and at one at least: then no node that this one was told of is unheard.
func (g *Gossip) Gathered(ctx context.Context) bool {
	if g.alive.Load() == 0 {
		return false
	}
	local, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	for _, answer := range g.lookUp(ctx) {
		ours := func(ip netip.Addr) bool {
			return slices.ContainsFunc(local, func(a net.Addr) bool {
				p, err := netip.ParsePrefix(a.String())
				return err == nil && p.Addr() == ip.Unmap()
			})
		}
		if slices.ContainsFunc(answer.ips, ours) {
			continue
		}
		var addrs []netip.AddrPort
		for _, ip := range answer.ips {
			addrs = append(addrs, netip.AddrPortFrom(ip.Unmap(), answer.port))
		}
		if known := len(addrs); len(g.without(addrs)) == known { // none is alive, or none there
			return false
		}
	}
	return true
}

// joined lists addrs, some of which were still being asked.
func joined(addrs []netip.AddrPort) string {
	texts := make([]string, 0, listed)
	for _, a := range addrs[:min(len(addrs), listed)] {
		texts = append(texts, a.String())
	}
	return strings.Join(texts, ", ")
}

// unanswered is every failed dial on one line.
type unanswered struct{ errs []error }

// listed bounds the line.
const listed = 5

func (u *unanswered) Error() string {
	var parts []string
	for i, err := range u.errs {
		if i == listed {
			parts = append(parts, fmt.Sprintf("and %d more", len(u.errs)-listed))
			break
		}
		parts = append(parts, err.Error())
	}
	return ErrNoAnswer.Error() + ": " + strings.Join(parts, "; ")
}

func (u *unanswered) Unwrap() []error { return append([]error{ErrNoAnswer}, u.errs...) }

// dial begins a full exchange with each address, a few at a time, and returns where
// their results arrive: as many as addresses, unless ctx or g ends. Close
// waits for the dials.
func (g *Gossip) dial(ctx context.Context, addrs []netip.AddrPort) <-chan error {
	results := make(chan error, len(addrs))
	var next atomic.Int64
	for range min(dialers, len(addrs)) {
		g.start(func() {
			for i := next.Add(1) - 1; i < int64(len(addrs)) && ctx.Err() == nil; i = next.Add(1) - 1 {
				results <- g.exchange(addrs[i])
			}
		})
	}
	return results
}

var errSelf = errors.New("answered, but as no other live member: this node itself, or its ID is in use elsewhere")

// exchange does one full exchange. memberlist adds who answered to the members
// before Join returns, so that an answer of our own (through an address that is not
// known to be ours) leaves none.
func (g *Gossip) exchange(addr netip.AddrPort) error {
	_, err := g.list.Join([]string{addr.String()})
	if err == nil {
		if g.alive.Load() == 0 {
			return fmt.Errorf("%s: %w", addr, errSelf)
		}
		return nil
	}
	if u := errors.Unwrap(err); u != nil {
		err = u // without the list of one that memberlist makes of it
	}
	if kind, ok := keyMismatch(err.Error()); ok {
		g.mismatched(kind, addr.String())
		return fmt.Errorf("%s: %w: it uses %s: %s", addr, ErrKeyMismatch, kind, kind.fix())
	}
	return err
}
