package main

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/cmd/internal/control"
)

// frames is an output that does something after each frame, before the next tick.
type frames struct {
	bytes.Buffer
	after func()
}

func (f *frames) Write(p []byte) (int, error) {
	defer f.after()
	return f.Buffer.Write(p)
}

// watch runs weft, where each frame is followed by the next of then and a tick, and the one after the last by
// Ctrl-C.
func watch(t *testing.T, socket string, terminal bool, args string, then ...func()) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	ticks := make(chan time.Time, 1)
	after := func() {
		if len(then) == 0 {
			cancel()
			return
		}
		then[0]()
		then = then[1:]
		ticks <- now
	}
	out, errOut := frames{after: after}, frames{after: after}
	stopped := false
	c := &cli{
		out: &out, errOut: &errOut, terminal: terminal, socket: socket,
		now:    func() time.Time { return now },
		ticker: func(time.Duration) (<-chan time.Time, func()) { return ticks, func() { stopped = true } },
	}
	status := c.run(ctx, strings.Fields(args))
	if !stopped {
		t.Error("the ticker was not stopped")
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		t.Error("the watch did not end")
	}
	return result{status, out.String(), errOut.String()}
}

func nothing() {}

func TestWatch(t *testing.T) {
	socket, _ := daemon(t, &backend{})
	first := strings.Replace(statusText, "2 up of 3", "1 up of 3", 1)
	second := statusText
	if got := watch(t, socket, false, "status --watch", nothing); got != (result{0, first + "\n" + second, ""}) {
		t.Errorf("text: got %+v", got)
	}
	socket, _ = daemon(t, &backend{})
	heading := "\x1b[H\x1b[2J15:04:05, every second until Ctrl-C\n\n"
	if got := watch(t, socket, true, "status -w", nothing); got != (result{0, heading + first + heading + second, ""}) {
		t.Errorf("terminal: got %+v", got)
	}
	socket, _ = daemon(t, &backend{})
	got := watch(t, socket, true, "status --watch --json", nothing)
	lines := strings.Split(got.out, "\n")
	if got.status != 0 || len(lines) != 3 || !strings.HasPrefix(lines[0], `{"version"`) || !strings.Contains(lines[1], `"up":2}`) || lines[2] != "" {
		t.Errorf("JSON: got %+v", got)
	}
}

// TestWatchOutlivesDaemon restarts the daemon under a watch.
func TestWatchOutlivesDaemon(t *testing.T) {
	for _, test := range []struct {
		terminal         bool
		args             string
		outHas, errHas   string
		outLacks, errNot string
	}{
		{false, "routes --watch", "PREFIX", "weft: weftd is not running", "weftd is not running", ""},
		{true, "routes --watch", "weftd is not running", "", "", "weftd"},
		{true, "routes --watch --json", `{"routes":[`, "weft: weftd is not running", "weftd", ""},
	} {
		socket, stop := daemon(t, &backend{})
		got := watch(t, socket, test.terminal, test.args, stop)
		if got.status != 0 || !strings.Contains(got.out, test.outHas) || !strings.Contains(got.errOut, test.errHas) ||
			test.outLacks != "" && strings.Contains(got.out, test.outLacks) || test.errNot != "" && strings.Contains(got.errOut, test.errNot) {
			t.Errorf("%+v: got %+v", test, got)
		}
	}
}

// hung is a daemon that is asked and does not answer.
type hung struct {
	backend
	asked   func()
	release chan struct{}
}

func (h *hung) Status() control.Status {
	h.asked()
	<-h.release
	return control.Status{}
}

func TestInterruptWhileAsking(t *testing.T) {
	for args, want := range map[string]result{
		"status":                {1, "", "weft: interrupted\n"},
		"status --watch":        {0, "", ""},
		"status --watch --json": {0, "", ""},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		h := &hung{asked: cancel, release: make(chan struct{})}
		socket, stop := daemon(t, h)
		var out, errOut bytes.Buffer
		c := &cli{
			out: &out, errOut: &errOut, socket: socket, now: time.Now,
			ticker: func(time.Duration) (<-chan time.Time, func()) { return nil, func() {} },
		}
		status := c.run(ctx, strings.Fields(args))
		if got := (result{status, out.String(), errOut.String()}); got != want {
			t.Errorf("weft %s: got %+v, want %+v", args, got, want)
		}
		close(h.release)
		stop()
	}
}

func TestWatchEndsWhenOutputFails(t *testing.T) {
	socket, _ := daemon(t, &backend{})
	var errOut bytes.Buffer
	c := &cli{
		out: failing{}, errOut: &errOut, socket: socket, now: time.Now,
		ticker: func(time.Duration) (<-chan time.Time, func()) { return nil, func() {} },
	}
	if status := c.run(t.Context(), []string{"peers", "--watch"}); status != 1 || errOut.String() != "weft: disk full\n" {
		t.Errorf("status %d, %q", status, errOut.String())
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errors.New("disk full") }
