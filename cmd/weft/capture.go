package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/weft-net/weft/cmd/internal/control"
)

const (
	// captureSnaplen holds the headers of both layers, and the beginning of what is behind them.
	captureSnaplen = 256
	maxSnaplen     = 65535

	anyReason = "any"
)

// capturing is one call of `weft capture`.
type capturing struct {
	file     string
	request  control.CaptureRequest
	layer    string
	drops    string
	count    uint
	duration time.Duration
}

func (c *cli) captureCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "capture",
		Short: "Show packets as they pass weftd, or write them to a file for Wireshark",
		Long: `Show packets as they pass weftd: pods' own (inner), and those around them on the
underlay (outer), with the node that they go to or come from. A packet that
weftd drops is shown once, with the reason.

weftd never waits for a capture: what there is no room for is skipped, and
counted at the end. TCP comes as superpackets of up to 64 KiB, with the number of
packets that each stands for. Outer IP and UDP headers are the kernel's to make, and
are shown as it makes them. Packets of directly routed peers do not pass weftd: see
those with tcpdump on the underlay.`,
		Example: `  weft capture
  weft capture --pod web --peer node2
  weft capture --drops
  weft capture --drops=spoofed,no-route --direction in
  weft capture -w /tmp/weft.pcapng --snaplen 65535 --duration 30s
  ssh node1 weft capture -w - | wireshark -k -i -`,
		Args: noArgs,
	}
	var x capturing
	f := cmd.Flags()
	f.StringVarP(&x.file, "write", "w", "", "`file` to write pcapng to; - is the output")
	f.StringSliceVar(&x.request.Pods, "pod", nil, "packets from or to this `pod` of this node, or this address")
	f.StringVar(&x.request.Node, "peer", "", "packets to or from this `node`")
	f.StringVar(&x.request.Direction, "direction", "", "in or out")
	f.StringVar(&x.layer, "layer", "both", "inner, outer or both")
	f.StringVar(&x.drops, "drops", "", "only packets that were dropped, for these reasons if any are given")
	f.Lookup("drops").NoOptDefVal = anyReason
	f.UintVarP(&x.count, "count", "c", 0, "packets to show before it ends; 0 goes on until Ctrl-C")
	f.DurationVar(&x.duration, "duration", 0, "time before it ends; 0 goes on until Ctrl-C")
	f.IntVar(&x.request.Sample, "sample", 1, "show one in so many packets, drawn at random")
	f.IntVar(&x.request.Snaplen, "snaplen", captureSnaplen, "bytes of each packet to keep, up to 65535")
	c.completeCapture(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := x.check(c); err != nil {
			return err
		}
		client := control.NewClient(c.socket)
		defer client.Close()
		return c.capture(cmd.Context(), client, &x)
	}
	return cmd
}

// completeCapture completes the values of its flags in a shell.
func (c *cli) completeCapture(cmd *cobra.Command) {
	words := func(all ...string) cobra.CompletionFunc {
		return func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return all, cobra.ShellCompDirectiveNoFileComp
		}
	}
	for flag, complete := range map[string]cobra.CompletionFunc{
		"direction": words(control.CaptureIn, control.CaptureOut),
		"layer":     words(control.CaptureInner, control.CaptureOuter, "both"),
		"peer":      c.completeNode,
	} {
		if err := cmd.RegisterFlagCompletionFunc(flag, complete); err != nil {
			panic("weft: " + err.Error()) // the flag is there
		}
	}
}

// check completes the request.
func (x *capturing) check(c *cli) error {
	if x.layer != "both" {
		x.request.Layer = x.layer
	}
	if x.request.Drops = x.drops != ""; x.request.Drops && x.drops != anyReason {
		x.request.Reasons = strings.Split(x.drops, ",")
	}
	r := &x.request
	switch {
	case r.Direction != "" && r.Direction != control.CaptureIn && r.Direction != control.CaptureOut:
		return usagef("--direction is %q, and can be in or out", r.Direction)
	case r.Layer != "" && r.Layer != control.CaptureInner && r.Layer != control.CaptureOuter:
		return usagef("--layer is %q, and can be inner, outer or both", r.Layer)
	case r.Sample < 1:
		return usagef("--sample is %d, and must be at least 1, which shows all", r.Sample)
	case r.Snaplen < 1 || r.Snaplen > maxSnaplen:
		return usagef("--snaplen is %d, and can be 1 to %d", r.Snaplen, maxSnaplen)
	case x.duration < 0:
		return usagef("--duration is %s, and cannot be negative", x.duration)
	case x.file == "-" && c.terminal:
		return usagef("-w - writes binary, and the output is a terminal; pipe it into a program, or give a file")
	case x.file != "" && c.json:
		return usagef("-w writes pcapng, and --json JSON: take one of the two")
	}
	return nil
}

// errEnough ends a capture that has shown what was asked for.
var errEnough = errors.New("as many packets as were asked for")

// capture shows packets until there are enough, or it is interrupted; neither is an error.
func (c *cli) capture(ctx context.Context, client *control.Client, x *capturing) error {
	status, err := client.Status(ctx)
	if err != nil {
		return err
	}
	if x.duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, x.duration)
		defer cancel()
	}
	var shown uint64
	var out captureOutput // not before weftd has agreed: a file would be lost for nothing
	begun := func() (err error) {
		inner, outer := status.Tun.Name, status.Underlay.Interface
		if out, err = c.openCapture(x, map[string]string{control.CaptureInner: inner, control.CaptureOuter: outer}); err != nil {
			return err
		}
		_, err = fmt.Fprintf(c.errOut, "capturing on %s and %s until Ctrl-C\n", printable(inner), printable(outer))
		return err
	}
	skipped, err := client.Capture(ctx, x.request, begun, func(p *control.CapturedPacket) error {
		if err := out.show(p); err != nil {
			return err
		}
		if shown++; shown == uint64(x.count) {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) || ctx.Err() != nil {
		err = nil
	}
	if out.close != nil {
		err = errors.Join(err, out.close())
	}
	if err == nil || shown > 0 {
		fmt.Fprintln(c.errOut, captured(shown, skipped))
	}
	return err
}

// captured sums a capture up.
func captured(shown, skipped uint64) string {
	line := count(shown, "packet") + " captured"
	if skipped > 0 {
		line += fmt.Sprintf(", %d skipped: weftd saw more than could be shown; narrow the filter, or take --sample 10", skipped)
	}
	return line
}

// captureOutput is where packets are shown.
type captureOutput struct {
	show  func(*control.CapturedPacket) error
	close func() error
}

func (c *cli) openCapture(x *capturing, devices map[string]string) (captureOutput, error) {
	nothing := func() error { return nil }
	switch x.file {
	case "":
		return captureOutput{show: c.printPacket, close: nothing}, nil
	case "-":
		p, err := newPcapng(c.out, devices, x.request.Snaplen)
		return captureOutput{show: func(packet *control.CapturedPacket) error {
			return errors.Join(p.write(packet), p.flush()) // who reads the pipe wants to see it
		}, close: nothing}, err
	}
	// What pods send is nobody else's business.
	file, err := os.OpenFile(x.file, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return captureOutput{}, fmt.Errorf("make the capture file: %w", err)
	}
	p, err := newPcapng(file, devices, x.request.Snaplen)
	if err != nil {
		return captureOutput{}, errors.Join(err, file.Close())
	}
	return captureOutput{show: p.write, close: func() error { return errors.Join(p.flush(), file.Close()) }}, nil
}

func (c *cli) printPacket(p *control.CapturedPacket) error {
	if c.json {
		return json.NewEncoder(c.out).Encode(p)
	}
	_, err := fmt.Fprintln(c.out, captureText(c.style, p))
	return err
}
