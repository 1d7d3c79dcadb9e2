package control

import (
	"context"
	"errors"
	"io"
	"net/url"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestCapture(t *testing.T) {
	want := CaptureRequest{
		Direction: CaptureIn, Layer: CaptureOuter, Node: "node2", Pods: []string{"web", "10.244.1.7"},
		Drops: true, Reasons: []string{"spoofed"}, Sample: 10, Snaplen: 96,
	}
	at := time.Date(2026, 11, 20, 15, 4, 5, 6000, time.UTC)
	sent := []CapturedPacket{
		{Time: at, Direction: CaptureIn, Layer: CaptureInner, Peer: "node2", Length: 1500, Segments: 1, Data: []byte{0x45, 0}},
		{Time: at, Direction: CaptureOut, Layer: CaptureInner, Drop: "no-route", Length: 64000, Segments: 46, SegmentSize: 1400, Partial: true},
	}
	for _, ends := range []error{nil, errors.New("weftd ends")} {
		asked := make(chan CaptureRequest, 1)
		ended := make(chan error, 1)
		b := backend{capture: func(ctx context.Context, r CaptureRequest, show func([]CapturedPacket, uint64) error) error {
			asked <- r
			if err := errors.Join(show(nil, 0), show(sent[:1], 0), show(sent[1:], 7)); err != nil || ends != nil {
				return errors.Join(err, ends)
			}
			<-ctx.Done()
			ended <- ctx.Err()
			return nil
		}}
		c := serve(t, Handler(b))
		ctx, cancel := context.WithCancel(t.Context())
		begun := 0
		var got []CapturedPacket
		skipped, err := c.Capture(ctx, want, func() error { begun++; return nil }, func(p *CapturedPacket) error {
			if got = append(got, *p); len(got) == len(sent) && ends == nil {
				cancel()
			}
			return nil
		})
		cancel()
		if r := <-asked; !cmp.Equal(r, want) {
			t.Errorf("asked for %+v, want %+v", r, want)
		}
		if begun != 1 || !cmp.Equal(got, sent) {
			t.Errorf("begun %d times, and shown:\n%s", begun, cmp.Diff(sent, got))
		}
		if ends != nil {
			if skipped != 7 || err == nil || err.Error() != "weftd: weftd ends" {
				t.Errorf("%d skipped, and then %v", skipped, err)
			}
			continue
		}
		if !errors.Is(err, context.Canceled) {
			t.Errorf("interrupted, and then %v", err)
		}
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			t.Fatal("the daemon goes on for a client that has gone")
		}
	}
}

// What goes wrong with whom packets are shown to ends the capture.
func TestCaptureEndsWithWhoLooks(t *testing.T) {
	b := backend{capture: func(ctx context.Context, _ CaptureRequest, show func([]CapturedPacket, uint64) error) error {
		if err := show(make([]CapturedPacket, 3), 0); err != nil {
			return err
		}
		<-ctx.Done()
		return nil
	}}
	c := serve(t, Handler(b))
	full := errors.New("disk full")
	shown := 0
	ok := func() error { return nil }
	if _, err := c.Capture(t.Context(), CaptureRequest{}, ok, func(*CapturedPacket) error { shown++; return full }); !errors.Is(err, full) || shown != 1 {
		t.Errorf("%d shown, and then %v", shown, err)
	}
	if _, err := c.Capture(t.Context(), CaptureRequest{}, func() error { return full }, nil); !errors.Is(err, full) {
		t.Errorf("got %v", err)
	}
}

func TestCaptureThatCannotBegin(t *testing.T) {
	b := backend{capture: func(context.Context, CaptureRequest, func([]CapturedPacket, uint64) error) error {
		return errors.New("no pod is called web")
	}}
	c := serve(t, Handler(b))
	_, err := c.Capture(t.Context(), CaptureRequest{}, nil, nil)
	if err == nil || err.Error() != "weftd: no pod is called web" {
		t.Errorf("got %v", err)
	}
	if _, err := c.Capture(t.Context(), CaptureRequest{Layer: "middle"}, nil, nil); err == nil || err.Error() != `weftd: layer is "middle", and can be inner or outer` {
		t.Errorf("got %v", err)
	}
}

// A client that does not read is given up, and the capture with it.
func TestCaptureGivesUpAClient(t *testing.T) {
	ended := make(chan error, 1)
	b := backend{capture: func(_ context.Context, _ CaptureRequest, show func([]CapturedPacket, uint64) error) error {
		packets := []CapturedPacket{{Data: make([]byte, 60_000)}}
		for range 1000 {
			if err := show(packets, 0); err != nil {
				ended <- err
				return err
			}
		}
		ended <- nil
		return nil
	}}
	c := serve(t, capture{b, 100 * time.Millisecond})
	resp, err := c.http.Get("http://weftd" + pathCapture)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	select {
	case err := <-ended:
		if err == nil {
			t.Error("60 MB were shown to nobody")
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the daemon waits for the client")
	}
	if _, err := io.Copy(io.Discard, resp.Body); err == nil {
		t.Error("the answer ends as if it were whole")
	}
}

func FuzzCaptureRequest(f *testing.F) {
	f.Add("direction=in&layer=inner&pod=a&pod=b&sample=3")
	f.Add("sample=-1")
	f.Add("snaplen=99999999999999999999&drops=maybe")
	f.Fuzz(func(t *testing.T, query string) {
		q, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		r, err := captureRequest(q)
		if err != nil {
			return
		}
		again, err := captureRequest(r.query())
		if err != nil || again.Sample != r.Sample || again.Snaplen != r.Snaplen || again.Direction != r.Direction || again.Drops != r.Drops {
			t.Errorf("%+v becomes %+v (%v)", r, again, err)
		}
	})
}

func TestTraceIsAsked(t *testing.T) {
	b := backend{trace: func(source, destination string) (Trace, error) {
		if source != "web" || destination != "10.244.2.7" {
			t.Errorf("asked from %q to %q", source, destination)
		}
		return Trace{Verdict: "arrives"}, nil
	}}
	c := serve(t, Handler(b))
	got, err := c.Trace(t.Context(), "web", "10.244.2.7")
	if err != nil || got.Verdict != "arrives" || got.Steps == nil {
		t.Errorf("got %+v, %v", got, err)
	}
}
