package control

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestPing(t *testing.T) {
	b := full()
	b.peers.Peers[0].Name = "rack 1 & co/node2"
	want := Ping{Node: b.peers.Peers[0].Name, ID: "def", Endpoint: b.peers.Peers[0].Endpoint, Mode: "udp",
		RTT: Microseconds(200 * time.Microsecond), MTU: 1450, PathMTU: 1500}
	b.ping = func(_ context.Context, id string) (Ping, error) {
		if id != "def" {
			t.Errorf("the backend is asked for %q", id)
		}
		return want, nil
	}
	c := serve(t, Handler(b))
	if got, err := c.Ping(t.Context(), b.peers.Peers[0].Name); err != nil || got != want {
		t.Errorf("got %+v, %v", got, err)
	}
	for node, want := range map[string]string{
		"":  "weftd: no node is named; give the name of one, or its ID",
		"x": "weftd: no other node is called \"x\"; `weft peers` lists them all",
	} {
		if _, err := c.Ping(t.Context(), node); err == nil || err.Error() != want {
			t.Errorf("%q: got %v, want %s", node, err, want)
		}
	}
	old := serve(t, http.NotFoundHandler())
	if _, err := old.Ping(t.Context(), "def"); err == nil || !strings.Contains(err.Error(), "HTTP status 404 for /v1/ping)") {
		t.Errorf("got %v", err)
	}
}

func TestFind(t *testing.T) {
	l := PeerList{Peers: []Peer{{ID: "aaaaaaaabbbb", Name: "node1"}, {ID: "aaaaaaaacccc", Name: "twin"}, {ID: "ddddddddeeee", Name: "twin"}}}
	for node, want := range map[string]string{
		"node1": "aaaaaaaabbbb", "aaaaaaaab": "aaaaaaaabbbb", "dddddddd": "ddddddddeeee", "ddddddddeeee": "ddddddddeeee",
		"twin":     "!2 nodes are called \"twin\"; give the ID of the one you mean, as `weft peers` shows it",
		"aaaaaaaa": "!2 nodes are called \"aaaaaaaa\"; give the ID",
		"ddddddd":  "!no other node is called \"ddddddd\"; `weft peers` lists them all",
		"Node-2":   "!no other node is called \"Node-2\"; did you mean node1?",
		"":         "!no node is named",
	} {
		p, err := l.Find(node)
		message, wantErr := strings.CutPrefix(want, "!")
		if wantErr && (err == nil || !strings.HasPrefix(err.Error(), message)) || !wantErr && (err != nil || p.ID != want) {
			t.Errorf("%q: got %s, %v; want %s", node, p.ID, err, want)
		}
	}
}

func TestDoctor(t *testing.T) {
	want := Diagnosis{Findings: []Finding{{LevelProblem, "W101", "w", "f"}, {LevelWarning, "W302", "v", ""}}, Checked: []string{"gossip", "data path"}}
	c := serve(t, Handler(backend{doctor: func(context.Context) (Diagnosis, error) { return want, nil }}))
	if got, err := c.Doctor(t.Context()); err != nil || !cmp.Equal(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
	c = serve(t, Handler(backend{doctor: func(context.Context) (Diagnosis, error) { return want, errors.New("no netlink") }}))
	if _, err := c.Doctor(t.Context()); err == nil || err.Error() != "weftd: no netlink" {
		t.Errorf("got %v", err)
	}
}

func TestMicroseconds(t *testing.T) {
	for want, d := range map[string]time.Duration{
		"0": 0, "0.001": 1, "212.5": 212500, "5000000": 5 * time.Second, "-1": -time.Microsecond, "3600000000000.001": 1000*time.Hour + 1,
	} {
		text, err := json.Marshal(Microseconds(d))
		var back Microseconds
		if err != nil || string(text) != want || json.Unmarshal(text, &back) != nil || back != Microseconds(d) {
			t.Errorf("%s: %s, %v, read as %d", d, text, err, back)
		}
	}
	for _, bad := range []string{`"1"`, "true", "{}"} {
		var m Microseconds
		if err := json.Unmarshal([]byte(bad), &m); err == nil {
			t.Errorf("%s is read as %d", bad, m)
		}
	}
}
