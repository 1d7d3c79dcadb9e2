package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/weft-net/weft/cmd/internal/control"
)

const watchInterval = time.Second

// view is a command that shows one answer of the daemon, once or again and again.
type view[T any] struct {
	ask    func(*control.Client, context.Context) (T, error)
	render func(w io.Writer, answer T)
}

// command completes cmd, which has its texts, to show v.
func (v view[T]) command(c *cli, cmd *cobra.Command) *cobra.Command {
	watch := cmd.Flags().BoolP("watch", "w", false, "show it anew every second, until Ctrl-C")
	cmd.Args = noArgs
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return v.show(cmd.Context(), c, *watch) }
	return cmd
}

// show shows v once, or until ctx ends.
func (v view[T]) show(ctx context.Context, c *cli, watch bool) error {
	client := control.NewClient(c.socket)
	defer client.Close()
	if watch {
		return v.watch(ctx, c, client)
	}
	answer, err := v.ask(client, ctx)
	if err != nil {
		return err
	}
	if c.json {
		return c.printJSON(answer)
	}
	var page bytes.Buffer
	v.render(&page, answer)
	_, err = c.out.Write(page.Bytes())
	return err
}

// watch shows a frame at once and then one a tick, until ctx ends. A daemon that is down at first is an error;
// one that goes down later is being watched, and is expected back.
func (v view[T]) watch(ctx context.Context, c *cli, client *control.Client) error {
	ticks, stop := c.ticker(watchInterval)
	defer stop()
	for first := true; ; first = false {
		answer, err := v.ask(client, ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && first:
			return err
		case err != nil && !c.terminal:
			fmt.Fprintf(c.errOut, "weft: %s\n", printable(err.Error()))
		default:
			if err := v.frame(c, answer, err, first); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticks:
		}
	}
}

// clearScreen moves the cursor home and erases all (ECMA-48 CUP, ED).
const clearScreen = "\x1b[H\x1b[2J"

// frame writes one frame in a single write, so that a terminal does not flicker. trouble takes the place of
// the answer on a terminal.
func (v view[T]) frame(c *cli, answer T, trouble error, first bool) error {
	var page bytes.Buffer
	switch {
	case c.json && trouble != nil: // a terminal; stdout stays one document a line
		fmt.Fprintf(c.errOut, "weft: %s\n", printable(trouble.Error()))
		return nil
	case c.json:
		if err := json.NewEncoder(&page).Encode(answer); err != nil {
			return err
		}
	case c.terminal:
		page.WriteString(clearScreen)
		fmt.Fprintf(&page, "%s\n\n", c.style.paint(dim, c.now().Format(time.TimeOnly)+", every second until Ctrl-C"))
		if trouble != nil {
			fmt.Fprintln(&page, c.style.paint(red, printable(trouble.Error())))
			break
		}
		v.render(&page, answer)
	default:
		if !first {
			page.WriteByte('\n')
		}
		v.render(&page, answer)
	}
	_, err := c.out.Write(page.Bytes())
	return err
}
