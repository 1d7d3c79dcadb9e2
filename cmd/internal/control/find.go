package control

import (
	"errors"
	"fmt"
	"strings"

	"github.com/weft-net/weft/cmd/internal/config"
)

// minIDStart is what `weft peers` shows of an ID. Fewer letters could be a misspelt name.
const minIDStart = 8

// Find returns the peer that a person means by node: by its name, its ID, or at least 8 letters that its ID starts
// with. The error is one line for the user, with the nearest name.
func (l PeerList) Find(node string) (Peer, error) {
	if node == "" {
		return Peer{}, errors.New("no node is named; give the name of one, or its ID")
	}
	var found []Peer
	var names []string
	for _, p := range l.Peers {
		if p.Name == node || len(node) >= minIDStart && strings.HasPrefix(p.ID, node) {
			found = append(found, p)
		}
		names = append(names, p.Name)
	}
	switch near := config.Suggest(node, names); {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return Peer{}, fmt.Errorf("%d nodes are called %q; give the ID of the one you mean, as `weft peers` shows it", len(found), node)
	case near != "":
		return Peer{}, fmt.Errorf("no other node is called %q; did you mean %s?", node, near)
	}
	return Peer{}, fmt.Errorf("no other node is called %q; `weft peers` lists them all", node)
}

// Forgettable says why p cannot be forgotten, as far as its state tells; nil where it can. The error is one line
// for the user.
func (p Peer) Forgettable() error {
	switch {
	case p.Static:
		return fmt.Errorf("%s is a static peer, which no gossip knows of; remove it from the configuration", p.Name)
	case p.State == PeerUp:
		return fmt.Errorf("%s is up, and would only be back at once; run `weft leave` there, or stop its weftd and ask again", p.Name)
	case p.State == PeerLeft:
		return fmt.Errorf("%s has left already, and none of its blocks is reserved", p.Name)
	}
	return nil
}
