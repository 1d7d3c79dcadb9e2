package control

import (
	"context"
	"net/http"
	"net/netip"
	"net/url"
	"time"
)

const (
	pathTrace = "/v1/trace"

	// traceTimeout bounds a trace, which the daemon ends after some seconds by itself.
	traceTimeout = 20 * time.Second
)

// Outcomes of a step of a trace.
const (
	TraceOK      = "ok"
	TraceFails   = "fails"
	TraceUnknown = "unknown" // it cannot be told from here
)

// Trace is the way of a packet, as far as it gets.
type Trace struct {
	Source      TraceEnd    `json:"source"`
	Destination TraceEnd    `json:"destination"`
	Mode        string      `json:"mode"` // "direct", "udp" or "vxlan"; "" where it does not leave this node
	MTU         int         `json:"mtu"`  // of the largest packet that goes whole, in bytes; 0 where there is no way
	Steps       []TraceStep `json:"steps"`
	Arrives     string      `json:"arrives"` // TraceOK, TraceFails or TraceUnknown
	Verdict     string      `json:"verdict"` // one line
}

// TraceEnd is where a packet comes from or goes to.
type TraceEnd struct {
	Address netip.Addr `json:"address"`
	Name    string     `json:"name,omitempty"` // of a pod of this node, or of a node
	Node    string     `json:"node,omitempty"` // that owns the address
}

// TraceStep is one place on the way, in the order in which a packet comes there.
type TraceStep struct {
	Node    string `json:"node"`
	What    string `json:"what"`
	Outcome string `json:"outcome"`
	Detail  string `json:"detail"`
	Fix     string `json:"fix,omitempty"` // of one that fails: what to do
}

// Trace has the daemon follow a packet from source to destination: each an address of the pod network, the name of a pod of
// the daemon's node, or that of a node, which stands for its TUN.
func (c *Client) Trace(ctx context.Context, source, destination string) (Trace, error) {
	query := url.Values{"from": {source}, "to": {destination}}
	return ask[Trace](ctx, c, http.MethodPost, pathTrace+"?"+query.Encode(), traceTimeout)
}

func trace(r *http.Request, b Backend) (any, error) {
	q := r.URL.Query()
	t, err := b.Trace(r.Context(), q.Get("from"), q.Get("to"))
	return t.complete(), err
}

func (t Trace) complete() Trace {
	t.Steps = list(t.Steps)
	return t
}
