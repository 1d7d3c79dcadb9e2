//go:build netns

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/weft-net/weft/cmd/internal/control"
	"github.com/weft-net/weft/membership"
)

// hostile is a member that has the gossip key, and sends nothing but what others must
// not believe.
type hostile struct {
	id     membership.Identity
	victim atomic.Pointer[membership.Envelope] // another's record, as it was heard
	sent   atomic.Int64
}

func (h *hostile) NodeMeta(int) []byte           { return nil }
func (h *hostile) MergeRemoteState([]byte, bool) {}

// NotifyMsg keeps somebody's record to forge.
func (h *hostile) NotifyMsg(b []byte) {
	if envs, err := membership.ParseMessage(b); err == nil && len(envs) > 0 {
		e := envs[0]
		e.Payload = slices.Clone(e.Payload)
		h.victim.Store(&e)
	}
}

// LocalState is a state of 4 MB of records that nobody signed.
func (h *hostile) LocalState(bool) []byte {
	var envs []membership.Envelope
	for range 4 << 20 / 1200 {
		envs = append(envs, membership.Envelope{Signer: h.id.ID, Payload: make([]byte, 1100)})
	}
	return membership.AppendMessage(nil, envs...)
}

// GetBroadcasts fills every packet with forgeries.
func (h *hostile) GetBroadcasts(overhead, limit int) (all [][]byte) {
	for {
		b := membership.AppendMessage(nil, h.forge(int(h.sent.Load())))
		if limit -= overhead + len(b); limit < 0 {
			return all
		}
		h.sent.Add(1)
		all = append(all, b)
	}
}

// forge returns the n-th forgery, of five kinds.
func (h *hostile) forge(n int) membership.Envelope {
	sign := func(record map[string]any) membership.Envelope {
		payload, err := json.Marshal(record)
		if err != nil {
			panic(err)
		}
		return membership.Envelope{Signer: h.id.ID, Signature: h.id.Sign("weft membership record", payload), Payload: payload}
	}
	record := map[string]any{
		"format": 1, "id": h.id.ID.String(), "version": 10 + n, "settled": true, "name": "hostile",
		"endpoints": []string{"198.51.100.3:8285"}, "modes": []string{"udp"}, "mtu": 1444,
	}
	switch n % 5 {
	case 0: // another's record, changed
		if v := h.victim.Load(); v != nil {
			e := *v
			e.Payload = []byte(strings.Replace(string(e.Payload), `"mtu":1444`, `"mtu":1400`, 1))
			return e
		}
		return membership.Envelope{Signer: h.id.ID, Payload: []byte("{}")}
	case 1: // about another
		if v := h.victim.Load(); v != nil {
			record["id"] = v.Signer.String()
		}
	case 2:
		record["format"] = 99
	case 3: // one claim too many
		var claims []map[string]any
		for i := range 17 {
			claims = append(claims, map[string]any{"prefix": fmt.Sprintf("10.244.%d.0/24", i), "since": 1})
		}
		record["claims"] = claims
		delete(record, "modes")
	case 4: // outside the pod network: it is valid, and refused as a whole
		record["claims"] = []map[string]any{{"prefix": "192.0.2.0/24", "since": 1}}
	}
	return sign(record)
}

// A member that floods the others with forged records costs them a bounded amount of
// work and memory, and nobody's traffic.
func TestHostileMember(t *testing.T) {
	c := newCluster(t, 3)
	a, b, foe := c.members[0], c.members[1], c.members[2]
	a.start()
	b.start()
	a.waitFor(b, "up")
	b.waitFor(a, "up")
	s := c.stream(a.pod(10), b.pod(10))
	before := a.rss()

	id, err := membership.NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	h := &hostile{id: id}
	conf := memberlist.DefaultLANConfig()
	conf.Name, conf.SecretKey, conf.Delegate = id.ID.String(), []byte("0123456789abcdef0123456789abcdef"), h
	conf.BindAddr, conf.BindPort, conf.AdvertiseAddr, conf.AdvertisePort = foe.Addr.String(), 7946, foe.Addr.String(), 7946
	conf.GossipInterval, conf.GossipNodes, conf.PushPullInterval = 5*time.Millisecond, 3, 500*time.Millisecond
	conf.Logger = log.New(io.Discard, "", 0)
	var list *memberlist.Memberlist
	if err := foe.Do(func() (err error) {
		list, err = memberlist.Create(conf)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := list.Shutdown(); err != nil {
			t.Error(err)
		}
	}()
	// The victims dial it: its own threads are in another namespace by now.
	for _, m := range []*member{a, b} {
		m.stop()
		m.start("--join", netip.AddrPortFrom(foe.Addr, 7946).String())
	}
	a.waitFor(b, "up")
	c.eventually("5,000 forgeries", func(context.Context) error {
		if n := h.sent.Load(); n < 5_000 {
			return fmt.Errorf("%d were sent", n)
		}
		return nil
	})
	s.goesOn("a member floods the others")
	var status control.Status
	c.eventually("forgeries of every kind to be refused", func(ctx context.Context) (err error) {
		if status, err = a.client.Status(ctx); err != nil {
			return err
		}
		for _, reason := range []string{"signature", "identity", "format", "fields"} {
			if status.Gossip.Rejected[reason] == 0 {
				return fmt.Errorf("none was refused for its %s: %v", reason, slices.Sorted(maps.Keys(status.Gossip.Rejected)))
			}
		}
		return nil
	})
	t.Logf("of %d forgeries sent to two nodes this one refused %v; %d kB more memory", h.sent.Load(), status.Gossip.Rejected, (a.rss()-before)/1024)
	if grown := a.rss() - before; grown > 64<<20 {
		t.Errorf("the daemon has grown by %d MB", grown>>20)
	}
	text, err := a.daemon.Log()
	if err != nil {
		t.Fatal(err)
	}
	if warnings := strings.Count(text, "level=WARN"); warnings > 30 {
		t.Errorf("%d lines of warnings", warnings)
	}
}

// rss is the resident memory of m's daemon in bytes.
func (m *member) rss() int {
	m.c.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", m.daemon.PID()))
	if err != nil {
		m.c.t.Fatal(err)
	}
	pages, err := strconv.Atoi(strings.Fields(string(text))[1])
	if err != nil {
		m.c.t.Fatal(err)
	}
	return pages * os.Getpagesize()
}
