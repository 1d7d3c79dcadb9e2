package path_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/weft-net/weft/dataplane/path"
)

// crowd is a node with so many peers, whose Trackers answer at once.
func crowd(tb testing.TB, peers int) *world {
	w := newWorld(tb, 1, "a")
	w.links["udp"] = &link{mtu: 1450, delay: time.Millisecond}
	var all []path.Candidate
	for i := range peers {
		id := fmt.Sprintf("peer%05d", i)
		n := &node{Tracker: path.New(id, path.Key([]byte("secret")), w.now), id: id, refused: map[error]int{}}
		n.Set([]path.Candidate{{Way: to("a"), Mute: true}}, w.now) // answers, and asks nothing
		w.nodes[id] = n
		all = append(all, path.Candidate{Way: to(id), Ceiling: 1500})
	}
	w.nodes["a"].Set(all, w.now)
	return w
}

// drive lets d pass in steps of a millisecond, for a alone: a crowd has too many
// nodes to look at each.
func (w *world) drive(d time.Duration) {
	a := w.nodes["a"]
	for end := w.now.Add(d); w.now.Before(end); w.now = w.now.Add(time.Millisecond) {
		w.deliver()
		for _, p := range a.Tick(w.now, func(w path.Way) bool { return a.busy[w.Peer] || w == a.only }) {
			a.sent = append(a.sent, sent{w.now, p.Way, p.Size})
			message := append(p.Message, make([]byte, p.Size-28-len(p.Message))...)
			w.send(letter{from: "a", to: p.Way.Peer, mode: "udp", message: message, size: p.Size})
		}
	}
}

// within checks that in no second of what was sent there is more than allowed.
func within(t *testing.T, what string, probes []sent, rate, burst int) {
	t.Helper()
	for first, last := 0, 0; last < len(probes); last++ {
		for probes[last].at.Sub(probes[first].at) > time.Second {
			first++
		}
		if n := last - first + 1; n > rate+burst {
			t.Fatalf("%d probes %s in a second", n, what)
		}
	}
}

func split(all []sent) (small, large []sent) {
	for _, s := range all {
		if s.size == path.SmallSize {
			small = append(small, s)
		} else {
			large = append(large, s)
		}
	}
	return small, large
}

// 10,000 ways, of which most do not answer: the limits hold, busy peers are looked
// after as they would be alone, and everyone has a turn.
func TestCrowd(t *testing.T) {
	long(t)
	const peers, busy = 10_000, 20
	w := crowd(t, peers)
	a := w.nodes["a"]
	for i := range busy {
		a.busy[fmt.Sprintf("peer%05d", i*100)] = true
	}
	w.drive(60 * time.Second)
	_, large := split(a.sent)
	within(t, "for sizes", large, path.LargeRate, path.LargeBurst)
	within(t, "in all", a.sent, path.SmallRate+path.LargeRate, path.SmallBurst+path.LargeBurst)
	known := 0
	for i := range peers {
		if s := a.State(to(fmt.Sprintf("peer%05d", i))); s.Known {
			known++
		}
	}
	if known != peers {
		t.Errorf("%d of %d ways known after a minute", known, peers)
	}
	for peer := range a.busy {
		if s := a.State(to(peer)); !s.Proven || s.MTU != 1450 {
			t.Errorf("busy %s: %+v", peer, s)
		}
	}
	delete(w.nodes, "peer00001")
	w.drive(35 * time.Second) // 10,000 idle ways have a turn every 27 s
	if s := a.State(to("peer00001")); s.Works {
		t.Errorf("one idle way is not noticed dead: %+v", s)
	}
	w.links["udp"].mtu = 0
	w.drive(3 * time.Second)
	for peer := range a.busy {
		if a.State(to(peer)).Works {
			t.Errorf("busy %s is not noticed dead among %d others", peer, peers)
		}
	}
	a.sent = nil
	w.drive(10 * time.Second) // most ways are in their retries
	small, _ := split(a.sent)
	within(t, "for liveness", small, path.SmallRate+path.LargeRate/10, path.SmallBurst) // and a few searches end
	if len(small) < 10*path.SmallRate*9/10 {
		t.Errorf("%d probes in 10s: the limit is not made use of", len(small))
	}
}

// Ways that begin together do not keep step.
func TestProbesComeSpread(t *testing.T) {
	long(t)
	w := crowd(t, 400)
	w.drive(60 * time.Second)
	small, _ := split(w.nodes["a"].sent)
	from := w.now.Add(-20 * time.Second)
	perSecond := map[int]int{}
	for _, s := range small {
		if s.at.After(from) {
			perSecond[int(s.at.Sub(from)/time.Second)]++
		}
	}
	for second, n := range perSecond {
		if n > 150 { // 400 / 4.5 s are 89
			t.Errorf("%d probes in second %d", n, second)
		}
	}
}

// More busy ways at once than the limit has probes a second leave the others their part.
func TestIdleWaysAreNotStarved(t *testing.T) {
	const peers, busy = 4050, 4000
	w := crowd(t, peers)
	a := w.nodes["a"]
	for i := range busy {
		a.busy[fmt.Sprintf("peer%05d", i)] = true
	}
	w.drive(2 * time.Second)
	for i := busy; i < peers; i++ {
		if s := a.State(to(fmt.Sprintf("peer%05d", i))); !s.Works {
			t.Fatalf("peer %d: %+v", i, s)
		}
	}
}

// busyCrowd is a crowd of which so many are busy, after their first probes.
func busyCrowd(tb testing.TB, busy, idle int) *world {
	w := crowd(tb, busy+idle)
	for i := range busy {
		w.nodes["a"].busy[nth(i)] = true
	}
	w.drive(2*stretched(busy) + 10*time.Second)
	w.nodes["a"].sent = nil
	return w
}

func nth(i int) string { return fmt.Sprintf("peer%05d", i) }

// stretched is the longest time between two probes of one of so many busy ways.
func stretched(busy int) time.Duration {
	return max(time.Second, time.Duration(busy)*time.Second/path.BusyShare)
}

// In a crowd of busy ways a dead one is known as soon as the stretched interval allows,
// and one that has just become busy as soon as if it were alone.
func TestDeadWayAmongManyBusyOnes(t *testing.T) {
	long(t)
	for _, busy := range []int{400, 2000, 5000} {
		const idle = 50
		w := busyCrowd(t, busy, idle)
		a := w.nodes["a"]
		dead := map[string]bool{}
		for i := range 10 {
			dead[nth(i*busy/10)] = true
		}
		newcomer := nth(busy)
		delete(w.nodes, newcomer)
		a.busy[newcomer] = true
		w.drive(3 * time.Second)
		if s := a.State(to(newcomer)); s.Works {
			t.Errorf("just become busy as one of %d: %+v", busy, s)
		}
		dead[newcomer] = true
		for id := range dead {
			delete(w.nodes, id)
		}
		w.drive(stretched(busy) + 2*time.Second)
		for i := range busy + idle {
			if s := a.State(to(nth(i))); s.Works == dead[nth(i)] {
				t.Errorf("%s of %d busy ones, dead: %t: %+v", nth(i), busy, dead[nth(i)], s)
			}
		}
		took := stretched(busy) + 5*time.Second
		small, _ := split(a.sent) // jitter makes it a tenth more, and searches end with one
		if n := len(small) * int(time.Second) / int(took); n > path.RoutineShare*10/9+path.LargeRate/10 {
			t.Errorf("%d busy ones: %d small probes a second", busy, n)
		}
	}
}

// A busy way that missed a probe is judged, asked again and compared with the other way
// to its peer before the first probes of a crowd of ways, new or just become busy.
func TestRetriesGoFirst(t *testing.T) {
	long(t)
	const peers = 4000
	w := crowd(t, peers)
	a := w.nodes["a"]
	dead := to(nth(7))
	other := path.Way{Peer: dead.Peer, Mode: "vxlan", To: dead.To}
	all := []path.Candidate{{Way: other, Ceiling: 1500}}
	for i := range peers {
		all = append(all, path.Candidate{Way: to(nth(i)), Ceiling: 1500})
	}
	a.Set(all, w.now)
	a.only = dead
	w.drive(20 * time.Second)
	delete(w.nodes, dead.Peer)
	for asked, ms := false, 0; !asked && ms < 1500; ms++ {
		a.sent = nil
		w.drive(time.Millisecond)
		asked = slices.ContainsFunc(a.sent, func(s sent) bool { return s.way == dead && s.size == path.SmallSize })
	}
	for i := range peers {
		a.busy[nth(i)] = nth(i) != dead.Peer && i < peers/2
		all = append(all, path.Candidate{Way: path.Way{Peer: nth(i), Mode: "direct"}, Ceiling: 1500})
	}
	a.Set(all, w.now) // looks at once who is busy
	w.drive(1250 * time.Millisecond)
	if s := a.State(dead); s.Works {
		t.Errorf("%+v", s)
	}
	if s := a.State(other); !s.Missed {
		t.Errorf("the other way: %+v", s)
	}
}

// Where half of the busy ways die at once, all the others still have their turn, and
// where all have died, what is sent is within what is routine.
func TestMassDeathStarvesNobody(t *testing.T) {
	long(t)
	const busy, idle = 1000, 100
	w := busyCrowd(t, busy, idle)
	a := w.nodes["a"]
	for i := range busy / 2 {
		delete(w.nodes, nth(2*i))
	}
	w.drive(stretched(busy) + busy/2*time.Second/125 + 2*time.Second)
	asked := map[string]bool{}
	for _, s := range a.sent {
		asked[s.way.Peer] = asked[s.way.Peer] || s.size == path.SmallSize
	}
	for i := range busy + idle {
		if s := a.State(to(nth(i))); s.Works == (i < busy && i%2 == 0) || !asked[nth(i)] {
			t.Errorf("%s: asked: %t; %+v", nth(i), asked[nth(i)], s)
		}
	}
	w.links["udp"].mtu = 0
	w.drive(stretched(busy) + busy/2*time.Second/125 + 2*time.Second)
	a.sent = nil
	w.drive(5 * time.Second)
	if small, _ := split(a.sent); len(small) > 5*path.RoutineShare {
		t.Errorf("%d small probes in 5s", len(small))
	}
}

func TestAnswersAreLimited(t *testing.T) {
	w := crowd(t, 1)
	b := path.New("b", path.Key([]byte("secret")), w.now)
	b.Set([]path.Candidate{{Way: to("a"), Ceiling: 1500}}, w.now)
	a := w.nodes["a"]
	a.Set([]path.Candidate{{Way: to("b"), Ceiling: 1500}}, w.now)
	answered, limited := 0, 0
	for range path.MessageBurst {
		p, _, _ := a.Ping(to("b"), w.now)
		switch _, err := b.Receive("a", p.Message, p.Size, w.now); {
		case err == nil:
			answered++
		case errors.Is(err, path.ErrLimited):
			limited++
		default:
			t.Fatal(err)
		}
	}
	if answered != path.PeerBurst || limited == 0 {
		t.Errorf("%d answered, %d not", answered, limited)
	}
	p, _, _ := a.Ping(to("b"), w.now)
	if _, err := b.Receive("a", p.Message, p.Size, w.now.Add(time.Second)); err != nil {
		t.Errorf("a second later: %v", err)
	}
}

func TestAnswersToAllAreLimited(t *testing.T) {
	const peers = 20
	w := crowd(t, peers)
	answered := 0
	for id, n := range w.nodes {
		if id == "a" {
			continue
		}
		n.Set([]path.Candidate{{Way: to("a"), Ceiling: 1500}}, w.now)
		for range path.PeerBurst {
			p, _, _ := n.Ping(to("a"), w.now)
			if _, err := w.nodes["a"].Receive(id, p.Message, p.Size, w.now); err == nil {
				answered++
			}
		}
	}
	if answered != path.AnyBurst {
		t.Errorf("%d answered", answered)
	}
}
