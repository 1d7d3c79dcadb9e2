package main

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/cmd/internal/control"
)

// keyRing is the gossip keys of a daemon: what it answers, in turn, the last for ever.
type keyRing struct {
	lists []control.KeyList
	err   error
	asked []string
}

func (b *backend) answerKeys(what string) (control.KeyList, error) {
	k := &b.keys
	k.asked = append(k.asked, what)
	if k.err != nil || len(k.lists) == 0 {
		return control.KeyList{}, k.err
	}
	l := k.lists[0]
	if len(k.lists) > 1 {
		k.lists = k.lists[1:]
	}
	return l, nil
}

func (b *backend) Keys() (control.KeyList, error)      { return b.answerKeys("list") }
func (b *backend) RotateKey() (control.KeyList, error) { return b.answerKeys("rotate") }
func (b *backend) RemoveKey(key string, force bool) (control.KeyList, error) {
	if force {
		key += " by force"
	}
	return b.answerKeys("remove " + key)
}
func (b *backend) ExportKey() (control.GossipKey, error) {
	return control.GossipKey{Key: "c2VjcmV0", Fingerprint: newKey}, b.keys.err
}

const newKey, oldKey = "1a2b3c4d", "9f8e7d6c"

// keyList has three nodes, each with the keys it reads by.
func keyList(inUse string, keys ...[]string) control.KeyList {
	l := control.KeyList{Keys: []string{newKey, oldKey}, InUse: inUse}
	for i, k := range keys {
		l.Nodes = append(l.Nodes, control.KeyNode{Node: control.Node{ID: "id", Name: []string{"node1", "node2", "node3"}[i]}, State: []string{"up", "up", "down"}[i], Keys: k})
	}
	return l
}

func rotation() []control.KeyList {
	return []control.KeyList{
		keyList(oldKey, []string{oldKey}, []string{oldKey}, []string{oldKey}),
		keyList(oldKey, []string{oldKey, newKey}, []string{oldKey, newKey}, []string{oldKey}),
		keyList(oldKey, []string{oldKey, newKey}, []string{oldKey, newKey}, []string{oldKey}),
		keyList(newKey, []string{newKey, oldKey}, []string{oldKey, newKey}, []string{newKey, oldKey}),
		keyList(newKey, []string{newKey, oldKey}, []string{newKey, oldKey}, []string{newKey, oldKey}),
	}
}

// rotate runs weft with a tick for each look at the keys, each taking a second.
func rotate(t *testing.T, socket, args string) result {
	t.Helper()
	var out, errOut strings.Builder
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	ticks := make(chan time.Time)
	close(ticks)
	at, stopped := now, false
	c := &cli{out: &out, errOut: &errOut, socket: socket,
		now:    func() time.Time { at = at.Add(time.Second); return at },
		ticker: func(time.Duration) (<-chan time.Time, func()) { return ticks, func() { stopped = true } },
	}
	status := c.run(ctx, strings.Fields(args))
	if !stopped {
		t.Error("the ticker was not stopped")
	}
	return result{status, out.String(), errOut.String()}
}

func TestKeyRotate(t *testing.T) {
	begins := "Made key 1a2b3c4d. Once all of 3 nodes have confirmed it they send by it, and by 9f8e7d6c until then.\n"
	slow := "0 of 3 have confirmed it, 0 send by it; waiting for node1 (up), node2 (up), node3 (down)\n" +
		"2 of 3 have confirmed it, 0 send by it; waiting for node3 (down)\n"
	ends := "3 of 3 have confirmed it, 2 send by it\n" + `All nodes send by it. What is left to do:
  weft key remove 9f8e7d6c                     end the old key
  weft key export > /etc/weft/gossip.key     on each node, for the case that its stateDir is lost, and for new nodes
`
	goesOn := "It goes on by itself: `weft key list` shows how far it is. A node that is gone for good holds it up until `weft forget`.\n"
	for args, want := range map[string]result{
		"key rotate":           {0, begins + slow + ends, ""},
		"key rotate --wait 3s": {1, begins + slow + goesOn, ""},
		"key rotate --no-wait": {0, begins + goesOn, ""},
	} {
		b := &backend{keys: keyRing{lists: rotation()}}
		socket, _ := daemon(t, b)
		if got := rotate(t, socket, args); got != want {
			t.Errorf("weft %s: got %+v\nwant %+v", args, got, want)
		}
		if b.keys.asked[0] != "rotate" {
			t.Errorf("asked %v", b.keys.asked)
		}
	}
	b := &backend{keys: keyRing{lists: rotation()}}
	socket, _ := daemon(t, b)
	if got := rotate(t, socket, "key rotate --json"); got.status != 0 || !strings.HasPrefix(got.out, "{\n  \"keys\": [\n    \"1a2b3c4d\",") || strings.Contains(got.out, "Made") {
		t.Errorf("JSON: %+v", got)
	}
	b = &backend{keys: keyRing{err: errors.New("gossip has no key here")}}
	socket, _ = daemon(t, b)
	if got := run(t, socket, "key", "rotate"); got != (result{1, "", "weft: weftd: gossip has no key here\n"}) {
		t.Errorf("got %+v", got)
	}
}

func TestKeyList(t *testing.T) {
	b := &backend{keys: keyRing{lists: rotation()[1:2]}}
	socket, _ := daemon(t, b)
	want := `KEY       STATE   CONFIRMED  SENT BY  LACKED BY
1a2b3c4d  waits      2 of 3        0  node3 (down)
9f8e7d6c  in use     3 of 3        3
`
	if got := run(t, socket, "key", "list"); got != (result{0, want, ""}) {
		t.Errorf("got %+v", got)
	}
	if got := run(t, socket, "key", "list", "--json"); !strings.Contains(got.out, `"inUse": "9f8e7d6c"`) {
		t.Errorf("got %+v", got)
	}
	if got := keyNodes(make([]control.KeyNode, 7)); !strings.HasSuffix(got, ", and 2 more") {
		t.Errorf("got %s", got)
	}
}

func TestKeyRemove(t *testing.T) {
	for args, want := range map[string]result{
		"key remove 9f8e7d6c": {0, "Removed key 9f8e7d6c.\n", "remove 9f8e7d6c"},
		"key remove 9f8e7d6c --force": {0, "Removed key 9f8e7d6c.\n" +
			"Cut off, until their gossipKeyFile is what `weft key export` prints here and weftd is restarted there: node3 (down)\n", "remove 9f8e7d6c by force"},
	} {
		b := &backend{keys: keyRing{lists: rotation()[4:]}}
		if strings.Contains(args, "force") {
			b.keys.lists = rotation()[1:2]
		}
		socket, _ := daemon(t, b)
		if got := run(t, socket, strings.Fields(args)...); got != (result{0, want.out, ""}) || b.keys.asked[1] != want.errOut {
			t.Errorf("weft %s: got %+v, asked %v", args, got, b.keys.asked)
		}
	}
}

func TestKeyExport(t *testing.T) {
	b := &backend{}
	socket, _ := daemon(t, b)
	said := "This is gossip key 1a2b3c4d: a secret, for the gossipKeyFile (mode 0600) of nodes that shall join.\n"
	if got := run(t, socket, "key", "export"); got != (result{0, "c2VjcmV0\n", said}) {
		t.Errorf("got %+v", got)
	}
	if got := run(t, socket, "key", "export", "--json"); got != (result{0, "{\n  \"key\": \"c2VjcmV0\",\n  \"fingerprint\": \"1a2b3c4d\"\n}\n", ""}) {
		t.Errorf("got %+v", got)
	}
}

func TestKeyUsage(t *testing.T) {
	for args, want := range map[string]string{
		"key rotat":                  "weft key has no command \"rotat\"; there are list, rotate, remove and export",
		"key remove":                 "weft key remove takes one fingerprint, but got 0; `weft key list` shows them",
		"key rotate now":             "weft key rotate takes no arguments, but got \"now\"; see `weft key rotate --help`",
		"key rotate --wait 0s":       "--wait is 0s, and must be more than 0; --no-wait does not wait",
		"key export gossip.key":      "weft key export takes no arguments, but got \"gossip.key\"; see `weft key export --help`",
		"key remove 9f8e7d6c --forc": "unknown flag: --forc; did you mean --force?",
	} {
		if got := run(t, "/nowhere", strings.Fields(args)...); got != (result{2, "", "weft: " + want + "\n"}) {
			t.Errorf("weft %s: got %+v", args, got)
		}
	}
	for _, name := range []string{"key", "key list", "key rotate", "key remove", "key export"} {
		help := run(t, "/nowhere", append(strings.Fields(name), "--help")...)
		if help.status != 0 || !strings.Contains(help.out, "Examples:\n") {
			t.Errorf("weft %s: %+v", name, help)
		}
		for line := range strings.Lines(help.out) {
			if len(line) > 110 || strings.Contains(line, "\t") {
				t.Errorf("%s: line %q", name, line)
			}
		}
	}
}
