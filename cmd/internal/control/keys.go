package control

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strconv"
)

const (
	pathKeys       = "/v1/keys"
	pathKeysRotate = "/v1/keys/rotate"
	pathKeysRemove = "/v1/keys/remove"
	pathKeysExport = "/v1/keys/export"
)

// KeyList is the answer to /v1/keys: the gossip keys of the cluster, by their fingerprints, and who
// reads by which.
type KeyList struct {
	Keys  []string  `json:"keys"`  // newest first
	InUse string    `json:"inUse"` // this node sends by it
	Nodes []KeyNode `json:"nodes"` // this one first; without those that have left or were forgotten
}

// KeyNode is a node, and the keys that it has confirmed.
type KeyNode struct {
	Node
	State string   `json:"state"` // as of Peer
	Keys  []string `json:"keys"`  // that it reads by; it sends by the first
}

// Reads says whether n has confirmed key.
func (n KeyNode) Reads(key string) bool { return slices.Contains(n.Keys, key) }

// Sends says whether n sends by key.
func (n KeyNode) Sends(key string) bool { return len(n.Keys) > 0 && n.Keys[0] == key }

// Without returns the nodes for which yes does not hold.
func (l KeyList) Without(yes func(KeyNode) bool) []KeyNode {
	return slices.DeleteFunc(slices.Clone(l.Nodes), yes)
}

// GossipKey is the answer to /v1/keys/export.
type GossipKey struct {
	Key         string `json:"key"` // as it stands in a key file, without the newline
	Fingerprint string `json:"fingerprint"`
}

// Keys returns the gossip keys.
func (c *Client) Keys(ctx context.Context) (KeyList, error) {
	return ask[KeyList](ctx, c, http.MethodGet, pathKeys, queryTimeout)
}

// RotateKey has the daemon make a gossip key, and returns when it is the newest of those that are spread.
func (c *Client) RotateKey(ctx context.Context) (KeyList, error) {
	return ask[KeyList](ctx, c, http.MethodPost, pathKeysRotate, queryTimeout)
}

// RemoveKey has the daemon remove the gossip key of that fingerprint. Without force it refuses while a node may
// still need the key.
func (c *Client) RemoveKey(ctx context.Context, fingerprint string, force bool) (KeyList, error) {
	query := url.Values{"key": {fingerprint}, "force": {strconv.FormatBool(force)}}
	return ask[KeyList](ctx, c, http.MethodPost, pathKeysRemove+"?"+query.Encode(), queryTimeout)
}

// ExportKey returns the gossip key that new nodes need.
func (c *Client) ExportKey(ctx context.Context) (GossipKey, error) {
	return ask[GossipKey](ctx, c, http.MethodGet, pathKeysExport, queryTimeout)
}

func keyList(l KeyList, err error) (any, error) { return l.complete(), err }

func removeKey(r *http.Request, b Backend) (any, error) {
	q := r.URL.Query()
	return keyList(b.RemoveKey(q.Get("key"), q.Get("force") == "true"))
}

func (l KeyList) complete() KeyList {
	nodes := make([]KeyNode, len(l.Nodes))
	for i, n := range l.Nodes {
		n.Keys = list(n.Keys)
		nodes[i] = n
	}
	return KeyList{Keys: list(l.Keys), InUse: l.InUse, Nodes: nodes}
}
