package main

import (
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/weft-net/weft/cmd/internal/control"
	"github.com/weft-net/weft/membership/keyring"
)

// Keys are the gossip keys, and who reads by which.
func (d *daemon) Keys() (control.KeyList, error) {
	if d.keys.ring == nil {
		return control.KeyList{}, errInsecure
	}
	view := d.store.View(time.Now())
	self := control.KeyNode{Node: control.Node{ID: d.id.String(), Name: d.config.NodeName}, State: control.PeerUp, Keys: d.keys.fingerprints()}
	l := control.KeyList{
		Keys: keyring.Fingerprints(d.keys.ring.Ring().Keys), InUse: keyring.Fingerprint(d.keys.ring.Keys()[0]),
		Nodes: []control.KeyNode{self},
	}
	for m := range gossiping(&view) {
		l.Nodes = append(l.Nodes, control.KeyNode{Node: control.Node{ID: m.ID.String(), Name: m.Name}, State: string(m.State), Keys: m.Keys})
	}
	return l, nil
}

// RotateKey makes a gossip key, and has all nodes take it.
func (d *daemon) RotateKey() (control.KeyList, error) {
	switch {
	case d.keys.ring == nil:
		return control.KeyList{}, errInsecure
	case !d.joined.Load():
		return control.KeyList{}, errors.New("weftd is still looking for the other nodes: ask again in a few seconds")
	}
	if _, err := d.keys.ring.Rotate(); err != nil {
		if errors.Is(err, keyring.ErrFull) {
			err = fmt.Errorf("%w: `weft key list` shows them, `weft key remove` removes one", err)
		}
		return control.KeyList{}, err
	}
	return d.Keys()
}

// RemoveKey removes a gossip key, where nobody needs it or force is given.
func (d *daemon) RemoveKey(fingerprint string, force bool) (control.KeyList, error) {
	l, err := d.Keys()
	if err != nil {
		return l, err
	}
	switch newest := l.Keys[0]; {
	case !slices.Contains(l.Keys, fingerprint):
		return l, fmt.Errorf("there is no gossip key %s: the keys are %s", fingerprint, strings.Join(l.Keys, ", "))
	case fingerprint == newest:
		return l, fmt.Errorf("key %s is the newest, and stays: make another with `weft key rotate`, which it can give way to", fingerprint)
	case !force:
		if late := late(l, newest); late != "" {
			return l, fmt.Errorf("key %s may still be needed: %s; wait for them, `weft forget` those that are gone for good, "+
				"or use --force, which cuts them off until their gossipKeyFile is what `weft key export` prints", fingerprint, late)
		}
	}
	if err := d.keys.ring.Remove(fingerprint); err != nil {
		return l, err
	}
	return d.Keys()
}

// maxNamed bounds how many nodes an error names.
const maxNamed = 5

// late names who does not send by key yet, and why; "" where all do.
func late(l control.KeyList, key string) string {
	nodes := l.Without(func(n control.KeyNode) bool { return n.Sends(key) })
	var texts []string
	for i, n := range nodes {
		if i == maxNamed {
			texts = append(texts, fmt.Sprintf("and %d more", len(nodes)-maxNamed))
			break
		}
		what := "has not confirmed " + key
		if n.Reads(key) {
			what = "does not send by " + key + " yet"
		}
		texts = append(texts, fmt.Sprintf("%s (%s) %s", n.Name, n.State, what))
	}
	return strings.Join(texts, ", ")
}

// ExportKey returns the newest key in use, for the gossipKeyFile of a new node.
func (d *daemon) ExportKey() (control.GossipKey, error) {
	if d.keys.ring == nil {
		return control.GossipKey{}, errInsecure
	}
	key := d.keys.ring.Keys()[0]
	return control.GossipKey{Key: base64.StdEncoding.EncodeToString(key), Fingerprint: keyring.Fingerprint(key)}, nil
}
