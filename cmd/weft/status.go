package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/weft-net/weft/cmd/internal/control"
)

func (c *cli) statusCommand() *cobra.Command {
	return view[control.Status]{
		ask:    (*control.Client).Status,
		render: func(w io.Writer, s control.Status) { renderStatus(w, c.style, c.now(), s) },
	}.command(c, &cobra.Command{
		Use:   "status",
		Short: "Show the state of this node",
		Long: `Show the state of this node: whether weftd forwards, on which interface and
addresses, how packets travel, how many peers it has, and what it warns of.

States: starting; ready; impaired (the kernel refuses what packets need, and the
reason says what); fenced (this node must not use its pod CIDR, and the reason
says why); leaving (weft leave was called).

A block that another node won is shown as lost, with the pods that still have
addresses in it: they are cut off until they are started anew.`,
		Example: `  weft status
  weft status --watch
  weft status --json | jq -r .state`,
	})
}

func stateColour(state string) colour {
	switch state {
	case control.StateReady, control.PeerUp:
		return green
	case control.StateStarting, control.StateLeaving, control.PeerGrace:
		return yellow
	case control.PeerLeft, control.PeerReplaced: // as it should be
		return dim
	}
	return red // down, refused, fenced, and any state this version does not know
}

func renderStatus(w io.Writer, st style, now time.Time, s control.Status) {
	state := st.paint(stateColour(s.State), printable(s.State))
	if s.Reason != "" {
		state += ": " + printable(s.Reason)
	}
	fmt.Fprintf(w, "%s is %s\n\n", st.paint(bold, printable(s.Node.Name)), state)
	encrypted := "encrypted"
	if !s.Gossip.Encrypted {
		encrypted = "not encrypted"
	}
	rows := [][]cell{
		{text("weftd"), text(s.Version + uptime(now, s.Started))},
		{text("node ID"), text(s.Node.ID)},
		{text("pods"), text(pods(s))},
	}
	rows = append(rows, blocks(s)...)
	rows = append(rows, [][]cell{
		{text("device"), text(details(s.Tun.Name, list(s.Tun.Addresses, ", "), mtuOf(s.Tun.MTU)))},
		{text("underlay"), text(details(s.Underlay.Interface, list(s.Underlay.Addresses, ", "), mtuOf(s.Underlay.MTU), s.Underlay.Why))},
		{text("mode"), text(mode(s.Mode, s.Tunnel))},
		{text("data"), text(fmt.Sprintf("UDP port %d", s.DataPort))},
		vxlan(s.VXLAN),
		{text("host"), text(details(masquerade(s.Masquerade), "firewall "+s.Firewall))},
		{text("offload"), text(details(offloads(s.Offload)...))},
		{text("gossip"), text(details(known(s.Gossip.Address), encrypted, count(s.Gossip.Members, "member")))},
		{text("peers"), text(fmt.Sprintf("%d up of %d known", s.Peers.Up, s.Peers.Known))},
	}...)
	if n := s.Gossip.KeyMismatches; n > 0 {
		rows = append(rows, []cell{painted("wrong key", yellow), text(count(n, "message") + " under another gossip key: a node with the wrong key, or another cluster")})
	}
	for _, reason := range slices.Sorted(maps.Keys(s.Gossip.Rejected)) {
		if n := s.Gossip.Rejected[reason]; n > 0 {
			rows = append(rows, []cell{painted("rejected", yellow), text(count(n, "record") + ": " + reason)})
		}
	}
	if mended := repairs(s.Repairs); mended != "" {
		rows = append(rows, []cell{painted("put back", yellow), text(mended + ": what other programs had changed of weft's")})
	}
	for _, warning := range s.Warnings {
		rows = append(rows, []cell{painted("warning", yellow), text(warning)})
	}
	writeTable(w, st, "  ", rows)
}

// repairs says how often something was put back, by kind.
func repairs(counts map[string]uint64) string {
	var texts []string
	for _, kind := range slices.Sorted(maps.Keys(counts)) {
		if counts[kind] > 0 {
			texts = append(texts, fmt.Sprintf("%s %d", kind, counts[kind]))
		}
	}
	return strings.Join(texts, ", ")
}

// mode says how packets travel, with the tunnel where that is another matter.
func mode(mode, tunnel string) string {
	if mode == "auto" {
		return "auto: direct where that works, " + tunnel + " elsewhere"
	}
	return mode
}

func vxlan(v control.VXLAN) []cell {
	if v.Closed != "" {
		return []cell{painted("vxlan", yellow), text("closed: " + v.Closed)}
	}
	return []cell{text("vxlan"), text(details(fmt.Sprintf("UDP port %d", v.Port), fmt.Sprintf("VNI %d", v.VNI), v.VTEPMAC))}
}

func masquerade(on bool) string {
	if on {
		return "masquerade"
	}
	return "no masquerade"
}

// offloads says what is in use, and of the rest why not, one reason once.
func offloads(o control.Offload) []string {
	why := make(map[string][]string)
	for _, name := range slices.Sorted(maps.Keys(o.Off)) {
		why[o.Off[name]] = append(why[o.Off[name]], name)
	}
	parts := []string{strings.Join(o.On, " "), count(o.Workers, "worker")}
	for _, reason := range slices.Sorted(maps.Keys(why)) {
		parts = append(parts, fmt.Sprintf("no %s: %s", strings.Join(why[reason], " "), reason))
	}
	return parts
}

func uptime(now, started time.Time) string {
	if started.IsZero() {
		return ""
	}
	return ", up " + span(now.Sub(started))
}

// known returns an address or prefix as text, "" while it is not known.
func known[A interface {
	IsValid() bool
	String() string
}](a A) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// list returns what is known of addresses or prefixes, with separator between.
func list[A interface {
	IsValid() bool
	String() string
}](all []A, separator string) string {
	var texts []string
	for _, a := range all {
		if t := known(a); t != "" {
			texts = append(texts, t)
		}
	}
	return strings.Join(texts, separator)
}

func mtuOf(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("MTU %d", n)
}

// details joins what is known.
func details(parts ...string) string {
	parts = slices.DeleteFunc(parts, func(s string) bool { return s == "" })
	if len(parts) == 0 {
		return "not known yet"
	}
	return strings.Join(parts, ", ")
}
