package control

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

const (
	pathCapture = "/v1/capture"

	// captureStall is how long a client may leave an answer to /v1/capture unread before it is given up.
	captureStall = 5 * time.Second
)

// Directions and layers of a captured packet.
const (
	CaptureOut   = "out" // from this node's pods to a peer
	CaptureIn    = "in"
	CaptureInner = "inner" // the pod's packet
	CaptureOuter = "outer" // the one around it, on the underlay
)

// CaptureRequest selects packets by all of what is set in it.
type CaptureRequest struct {
	Direction string   // CaptureOut or CaptureIn; "" is both
	Layer     string   // CaptureInner or CaptureOuter; "" is both
	Node      string   // peer, by its name, its ID or the start of its ID
	Pods      []string // the source or destination is one of them: addresses, or names of this node's pods
	Drops     bool     // what went no further, and nothing else
	Reasons   []string // of that, what did for one of these; none is for any
	Sample    int      // one in so many, drawn at random; 0 and 1 are all
	Snaplen   int      // bytes of each packet that are shown
}

// CapturedPacket is a packet that weftd has seen. A superpacket is one.
type CapturedPacket struct {
	Time        time.Time `json:"time"`
	Direction   string    `json:"direction"`
	Layer       string    `json:"layer"`
	Peer        string    `json:"peer,omitempty"`        // name of the node that it goes to or comes from
	Drop        string    `json:"drop,omitempty"`        // why it went no further
	Length      int       `json:"length"`                // of the whole, in bytes
	Segments    int       `json:"segments"`              // of the wire packets that it stands for
	SegmentSize int       `json:"segmentSize,omitempty"` // of a superpacket: payload, or datagram, of each but the last, in bytes
	Partial     bool      `json:"partial,omitempty"`     // its transport checksum is still to be completed
	Data        []byte    `json:"data"`                  // its first bytes, IP header first
}

// captureLine is a line of the answer to /v1/capture: a packet; how many found no room to be shown, by then; or the
// error that ended it. The first line is empty, and says that it has begun.
type captureLine struct {
	*CapturedPacket
	Skipped uint64 `json:"skipped,omitempty"`
	Error   string `json:"error,omitempty"`
}

// Capture has the daemon show packets as they pass, until ctx ends. It calls begun when it has begun, and show with each
// packet, which is borrowed until show returns; and it returns an error of either. skipped is how many packets
// found no room.
func (c *Client) Capture(ctx context.Context, r CaptureRequest, begun func() error, show func(*CapturedPacket) error) (skipped uint64, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://weftd"+pathCapture+"?"+r.query().Encode(), nil)
	if err != nil {
		return 0, fmt.Errorf("ask weftd for %s: %w", pathCapture, err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return 0, c.explain(ctx, queryTimeout, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
		if err != nil {
			return 0, c.explain(ctx, queryTimeout, err)
		}
		return 0, c.refusal(resp.StatusCode, pathCapture, body)
	}
	for d, first := json.NewDecoder(resp.Body), true; ; first = false {
		var line captureLine
		switch err = d.Decode(&line); {
		case err != nil:
			return skipped, c.explain(ctx, queryTimeout, err)
		case line.Error != "":
			return skipped, fmt.Errorf("weftd: %s", line.Error)
		case first:
			err = begun()
		case line.CapturedPacket != nil:
			err = show(line.CapturedPacket)
		}
		if skipped = max(skipped, line.Skipped); err != nil {
			return skipped, err
		}
	}
}

func (r CaptureRequest) query() url.Values {
	q := url.Values{"pod": r.Pods, "reason": r.Reasons}
	for name, value := range map[string]string{"direction": r.Direction, "layer": r.Layer, "node": r.Node} {
		if value != "" {
			q.Set(name, value)
		}
	}
	for name, n := range map[string]int{"sample": r.Sample, "snaplen": r.Snaplen} {
		q.Set(name, strconv.Itoa(n))
	}
	q.Set("drops", strconv.FormatBool(r.Drops))
	return q
}

// captureRequest reads what query wrote.
func captureRequest(q url.Values) (CaptureRequest, error) {
	r := CaptureRequest{
		Direction: q.Get("direction"), Layer: q.Get("layer"), Node: q.Get("node"), Pods: q["pod"],
		Drops: q.Get("drops") == "true", Reasons: q["reason"],
	}
	switch {
	case r.Direction != "" && r.Direction != CaptureOut && r.Direction != CaptureIn:
		return r, fmt.Errorf("direction is %q, and can be %s or %s", r.Direction, CaptureOut, CaptureIn)
	case r.Layer != "" && r.Layer != CaptureInner && r.Layer != CaptureOuter:
		return r, fmt.Errorf("layer is %q, and can be %s or %s", r.Layer, CaptureInner, CaptureOuter)
	}
	for name, n := range map[string]*int{"sample": &r.Sample, "snaplen": &r.Snaplen} {
		if text := q.Get(name); text != "" {
			var err error
			if *n, err = strconv.Atoi(text); err != nil || *n < 0 {
				return r, fmt.Errorf("%s is %q, and must be a number from 0", name, text)
			}
		}
	}
	return r, nil
}

// capture serves /v1/capture: lines of JSON, until the client goes, or reads too slowly.
type capture struct {
	Backend
	stall time.Duration // captureStall
}

func (b capture) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !takes(w, r, http.MethodGet) {
		return
	}
	request, err := captureRequest(r.URL.Query())
	if err != nil {
		respond(w, r, nil, requestError{err})
		return
	}
	out := &captureWriter{w: w, stream: http.NewResponseController(w), stall: b.stall}
	err = b.Capture(r.Context(), request, out.write)
	switch {
	case !out.begun:
		respond(w, r, struct{}{}, err)
	case err != nil && out.failed == nil:
		_ = out.line(captureLine{Error: err.Error()}) // a client that has gone needs no telling
		_ = out.flush()
	}
}

// captureWriter puts packets in lines.
type captureWriter struct {
	w       http.ResponseWriter
	stream  *http.ResponseController
	stall   time.Duration
	lines   bytes.Buffer
	begun   bool
	skipped uint64
	failed  error
}

// write is what Backend.Capture shows packets by.
func (o *captureWriter) write(packets []CapturedPacket, skipped uint64) error {
	if !o.begun {
		o.w.Header().Set("Content-Type", "application/x-ndjson")
		o.begun = true
		if err := o.line(captureLine{}); err != nil {
			return err
		}
	}
	for i := range packets {
		if err := o.line(captureLine{CapturedPacket: &packets[i]}); err != nil {
			return err
		}
	}
	if skipped > o.skipped {
		o.skipped = skipped
		if err := o.line(captureLine{Skipped: skipped}); err != nil {
			return err
		}
	}
	return o.flush()
}

func (o *captureWriter) line(l captureLine) error {
	if err := json.NewEncoder(&o.lines).Encode(l); err != nil {
		return fmt.Errorf("put a packet in JSON: %w", err)
	}
	return nil
}

// flush hands the client what there is. The deadline takes the place of the server's, which is for whole answers.
func (o *captureWriter) flush() error {
	err := o.stream.SetWriteDeadline(time.Now().Add(o.stall))
	if err == nil {
		_, err = o.lines.WriteTo(o.w)
	}
	if err == nil {
		err = o.stream.Flush()
	}
	if err != nil {
		o.failed = fmt.Errorf("show captured packets: %w", err)
	}
	return o.failed
}
