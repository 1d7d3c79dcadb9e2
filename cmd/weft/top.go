package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/weft-net/weft/cmd/internal/control"
)

// minTopInterval is what a person can follow; rates over less say little.
const minTopInterval = 200 * time.Millisecond

func (c *cli) topCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Follow the traffic with each node",
		Long: `Follow the traffic with each other node: bits and packets per second both ways,
round trip, loss, and how large packets may be on the way (path MTU), and of all
together what was dropped, and why. What the kernel routes directly passes weft by:
its rates are shown as a dash.

Keys: left and right choose the column to sort by, or n (node), s (state),
m (mode), o (out), i (in), t (round trip), l (loss), p (path MTU); r reverses the
order; q ends it.

Columns for which a terminal is too narrow are left out. Where the output is no
terminal, the table is printed once each interval.`,
		Example: `  weft top
  weft top --interval 5s >> traffic.log
  weft top --json | jq -c '.peers[] | [.name, .out.bitsPerSecond]'`,
		Args: noArgs,
	}
	interval := cmd.Flags().DurationP("interval", "i", watchInterval, "time between two looks, at least 200ms")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *interval < minTopInterval {
			return usagef("--interval is %s, and must be at least %s", *interval, minTopInterval)
		}
		client := control.NewClient(c.socket)
		defer client.Close()
		t := &top{cli: c, client: client, interval: *interval, order: order{column: columnOut}}
		return t.run(cmd.Context())
	}
	return cmd
}

// top is one run of `weft top`. It is for one goroutine.
type top struct {
	*cli
	client   *control.Client
	interval time.Duration
	order    order
	last     sample // zero before the first
	rates    rates
	known    bool // of rates
	trouble  error
}

// run looks at once and then each interval, until ctx ends or the person who looks has enough. A daemon that is down at
// first is an error; one that goes down later is expected back.
func (t *top) run(ctx context.Context) (err error) {
	if err := t.look(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	ticks, stop := t.ticker(t.interval)
	defer stop()
	var keys <-chan key
	resized := make(chan os.Signal, 1)
	if t.screen() {
		leave := t.enter()
		defer leave()
		k, done := t.keyboard()
		defer done()
		keys = k
		signal.Notify(resized, syscall.SIGWINCH)
		defer signal.Stop(resized)
	}
	for {
		if t.screen() { // others print with each look
			if err := t.draw(); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case k := <-keys:
			if k == keyQuit {
				return nil
			}
			t.order.press(k)
		case <-resized:
		case <-ticks:
			if t.trouble = t.look(ctx); ctx.Err() != nil {
				return nil
			}
			if err := t.print(); err != nil {
				return err
			}
		}
	}
}

// screen says whether a whole terminal is drawn on.
func (t *top) screen() bool { return t.terminal && !t.json }

// look takes a sample, and the rates since the one before.
func (t *top) look(ctx context.Context) error {
	peers, err := t.client.Peers(ctx)
	if err != nil {
		return err
	}
	drops, err := t.client.Drops(ctx)
	if err != nil {
		return err
	}
	now := sample{at: t.now(), peers: peers.Peers, drops: drops}
	t.known = !t.last.at.IsZero()
	t.rates = now.since(&t.last)
	t.last = now
	return nil
}

// print writes what is followed by a program, or into a file.
func (t *top) print() error {
	var page bytes.Buffer
	switch {
	case t.screen():
		return nil
	case t.trouble != nil:
		fmt.Fprintf(t.errOut, "weft: %s\n", printable(t.trouble.Error()))
		return nil
	case t.json:
		if err := json.NewEncoder(&page).Encode(t.rates); err != nil {
			return err
		}
	default:
		fmt.Fprintln(&page, t.now().Format(time.DateTime))
		t.rates.render(&page, t.style, t.order, t.known, maxWidth, maxHeight)
		fmt.Fprintln(&page)
	}
	_, err := t.out.Write(page.Bytes())
	return err
}

// Control sequences of ECMA-48 and xterm: another screen, without a cursor, and back.
const (
	enterScreen = "\x1b[?1049h\x1b[?25l"
	leaveScreen = "\x1b[?25h\x1b[?1049l"
)

func (t *top) enter() (leave func()) {
	fmt.Fprint(t.out, enterScreen)
	return func() { fmt.Fprint(t.out, leaveScreen) }
}

// draw shows a frame in a single write, so that a terminal does not flicker.
func (t *top) draw() error {
	width, height := t.size()
	var page bytes.Buffer
	head := fmt.Sprintf("%s, every %s", t.now().Format(time.TimeOnly), t.interval)
	fmt.Fprintln(&page, t.style.paint(dim, cut(head, width)))
	if t.trouble != nil {
		fmt.Fprintln(&page, t.style.paint(red, cut(printable(t.trouble.Error()), width)))
	} else {
		t.rates.render(&page, t.style, t.order, t.known, width, height-2)
	}
	lines := strings.Split(strings.TrimSuffix(page.String(), "\n"), "\n")
	lines = lines[:max(0, min(len(lines), height-1))]
	for len(lines) < height-1 {
		lines = append(lines, "")
	}
	lines = append(lines, t.style.paint(dim, cut("q quit   left right sort   r reverse", width)))
	// A terminal that takes bytes as they are needs the carriage return; what a shorter line leaves is erased by EL.
	_, err := fmt.Fprint(t.out, "\x1b[H"+strings.Join(lines, "\x1b[K\r\n")+"\x1b[K")
	return err
}

// cut shortens text to a width.
func cut(text string, width int) string {
	runes := []rune(text)
	if len(runes) <= width {
		return text
	}
	return string(runes[:max(0, width-1)]) + "…"
}
