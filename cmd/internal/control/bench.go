package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

const (
	pathBench = "/v1/bench"

	// benchTimeout bounds a measurement, which the daemon ends after 15 s by itself.
	benchTimeout = 20 * time.Second
)

// What a step of a measurement measures.
const (
	BenchLatency    = "latency"    // round trips of 64 bytes, one after the other, over one TCP connection
	BenchThroughput = "throughput" // as much as TCP carries
)

// Which way the bytes of a throughput step go.
const (
	BenchOut = "out" // from this node to the other
	BenchIn  = "in"
)

// BenchStep is what one step of a measurement between this node and another has found, over the overlay. Of a step that
// is under way there may be several, each with what is known by then.
type BenchStep struct {
	Test      string  `json:"test"`                // BenchLatency or BenchThroughput
	Direction string  `json:"direction,omitempty"` // BenchOut or BenchIn; "" of latency
	Streams   int     `json:"streams"`             // TCP connections
	Final     bool    `json:"final"`               // the step has ended
	Seconds   float64 `json:"seconds"`             // that it took

	// Of throughput. Final are what the receiving end has counted, the payload of TCP.
	Bytes         uint64  `json:"bytes"`
	BitsPerSecond float64 `json:"bitsPerSecond"`

	// Of latency; 0 before the end.
	RoundTrips int          `json:"roundTrips"`
	Min        Microseconds `json:"minUs"`
	Median     Microseconds `json:"medianUs"`
	P99        Microseconds `json:"p99Us"` // 99 of 100 took no longer
	Max        Microseconds `json:"maxUs"`
}

// benchLine is a line of the answer to /v1/bench: a step, or the error that ended the measurement.
type benchLine struct {
	BenchStep
	Error string `json:"error,omitempty"`
}

// Bench has the daemon measure what it carries to and from a peer, given as for Ping, which takes about 10 s. It calls
// show with each step as it comes, and returns the error of show, which ends the measurement.
func (c *Client) Bench(ctx context.Context, node string, show func(BenchStep) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, benchTimeout, errNoAnswer)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://weftd"+pathBench+"?"+url.Values{"node": {node}}.Encode(), nil)
	if err != nil {
		return fmt.Errorf("ask weftd for %s: %w", pathBench, err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return c.explain(ctx, benchTimeout, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
		if err != nil {
			return c.explain(ctx, benchTimeout, err)
		}
		return c.refusal(resp.StatusCode, pathBench, body)
	}
	for d := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)); ; {
		var line benchLine
		switch err := d.Decode(&line); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return c.explain(ctx, benchTimeout, err)
		case line.Error != "":
			return fmt.Errorf("weftd: %s", line.Error)
		}
		if err := show(line.BenchStep); err != nil {
			return err
		}
	}
}

// bench serves /v1/bench: a line of JSON for each step, as it comes. What goes wrong before the first is an answer like
// that of any other path.
type bench struct{ Backend }

func (b bench) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !takes(w, r, http.MethodPost) {
		return
	}
	peer, err := b.Peers().Find(r.URL.Query().Get("node"))
	if err != nil {
		respond(w, r, nil, requestError{err})
		return
	}
	out := &lines{w: w}
	err = b.Bench(r.Context(), peer.ID, func(s BenchStep) error { return out.write(benchLine{BenchStep: s}) })
	switch {
	case !out.begun:
		respond(w, r, struct{}{}, err)
	case err != nil:
		_ = out.write(benchLine{Error: err.Error()}) // a client that has gone needs no telling
	}
}

// lines is an answer that goes out line by line.
type lines struct {
	w     http.ResponseWriter
	begun bool
}

func (l *lines) write(v any) error {
	var line bytes.Buffer
	if err := json.NewEncoder(&line).Encode(v); err != nil {
		return fmt.Errorf("put a line of the answer in JSON: %w", err)
	}
	if !l.begun {
		l.w.Header().Set("Content-Type", "application/x-ndjson")
		l.begun = true
	}
	if _, err := l.w.Write(line.Bytes()); err != nil {
		return fmt.Errorf("write a line of the answer: %w", err)
	}
	return http.NewResponseController(l.w).Flush()
}
