// Command weft shows what the weftd on this node does, finds what is wrong, and makes keys and certificates.
//
// It asks the daemon over its control socket; package control describes that API. Exit status: 0, 1 if
// something failed or a problem was found, 2 if weft was called wrongly.
package main

import (
	"cmp"
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/term"

	"github.com/weft-net/weft/cmd/internal/config"
	"github.com/weft-net/weft/cmd/internal/control"
	"github.com/weft-net/weft/cmd/internal/doctor"
	"github.com/weft-net/weft/cni"
	"github.com/weft-net/weft/cni/wiring"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	terminal := term.IsTerminal(int(os.Stdout.Fd()))
	size := func() (width, height int) {
		width, height, err := term.GetSize(int(os.Stdout.Fd()))
		if err != nil || width == 0 || height == 0 {
			return 80, 24 // a serial line does not say
		}
		return width, height
	}
	c := &cli{
		out:    os.Stdout,
		errOut: os.Stderr,
		// Opened anew rather than taken from stdin: a read of it can then be interrupted, and an answer that is piped in
		// was not given by a person.
		ask:      func() (*os.File, error) { return os.Open("/dev/tty") },
		terminal: terminal,
		size:     size,
		// https://no-color.org: any value but the empty one.
		style:   style(terminal && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"),
		socket:  cmp.Or(os.Getenv("WEFT_SOCKET"), config.DefaultSocket),
		environ: os.Environ(),
		kernel: func() (cni.Kernel, func(), error) {
			w, err := wiring.Open()
			if err != nil {
				return nil, nil, err
			}
			return w, w.Close, nil
		},
		examine: func(n doctor.Node) control.Diagnosis { return doctor.Examine(n, doctor.Look(n, false)) },
		now:     time.Now,
		ticker: func(interval time.Duration) (<-chan time.Time, func()) {
			t := time.NewTicker(interval)
			return t.C, t.Stop
		},
	}
	status := c.run(ctx, os.Args[1:])
	stop()
	os.Exit(status)
}
