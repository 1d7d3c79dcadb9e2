package main

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// Where there is no terminal, nothing is left out.
const (
	maxWidth  = 1 << 20
	maxHeight = 1 << 20
)

// negative is SGR's negative image.
const negative colour = "7"

// least is the width that a node's name keeps.
const least = 8

// keep are the columns from the first to be shown to the first to be left out.
// Immutable.
var keep = []column{columnNode, columnOut, columnIn, columnRTT, columnState, columnLoss, columnMode, columnMTU, columnOutPackets, columnInPackets}

// titles of the columns, ">" of those of numbers.
// Immutable.
var titles = [columns]string{"NODE", "STATE", "MODE", ">OUT", ">OUT p/s", ">IN", ">IN p/s", ">RTT", ">LOSS", ">PATH"}

// render shows the sums, and the peers in that order, on width columns and up to height lines.
func (r *rates) render(w io.Writer, st style, o order, known bool, width, height int) {
	sums := "measuring"
	if known {
		sums = fmt.Sprintf("out %s, %s p/s   in %s, %s p/s", bitRate(r.Out.Bits), packetRate(r.Out.Packets), bitRate(r.In.Bits), packetRate(r.In.Packets))
	}
	fmt.Fprintln(w, cut(sums, width))
	drops := r.dropText()
	paint := yellow
	if len(r.Drops) == 0 {
		paint = ""
	}
	fmt.Fprintln(w, st.paint(paint, cut(printable(drops), width)))
	fmt.Fprintln(w)
	rows := [][columns]cell{{}}
	for i, title := range titles {
		base, right := strings.CutPrefix(title, ">")
		c := cell{text: base, colour: bold, right: right}
		if column(i) == o.column {
			c.colour = negative
		}
		rows[0][i] = c
	}
	for _, p := range o.sorted(r.Peers) {
		rows = append(rows, p.cells(known))
	}
	space := height - 3 // after the sums
	if hidden := len(rows) - space; hidden > 0 && space > 1 {
		rows = rows[:space-1]
		defer fmt.Fprintln(w, st.paint(dim, cut(fmt.Sprintf("and %d more", hidden+1), width)))
	}
	writeFitting(w, st, rows, width)
	if len(r.Peers) == 0 {
		fmt.Fprintln(w, cut("no other node is known", width))
	}
}

func (r *rates) dropText() string {
	if len(r.Drops) == 0 {
		return "no drops"
	}
	var sum float64
	var parts []string
	for _, d := range r.Drops {
		sum += d.Packets
		parts = append(parts, fmt.Sprintf("%s %s %s", d.Direction, d.Reason, packetRate(d.Packets)))
	}
	return fmt.Sprintf("drops %s p/s: %s", packetRate(sum), strings.Join(parts, ", "))
}

func (p *peerRate) cells(known bool) (row [columns]cell) {
	number := func(s string) cell { return cell{text: s, right: true} }
	row[columnNode] = text(printable(p.Name))
	row[columnState] = peerState(p.peer)
	row[columnMode] = text(p.Mode)
	row[columnRTT] = number(rtt(p.RTT))
	row[columnLoss] = loss(p.Loss)
	row[columnMTU] = mtu(p.PathMTU)
	carried := [...]struct {
		column column
		shown  string
	}{
		{columnOut, bitRate(p.Out.Bits)}, {columnOutPackets, packetRate(p.Out.Packets)},
		{columnIn, bitRate(p.In.Bits)}, {columnInPackets, packetRate(p.In.Packets)},
	}
	for _, c := range carried {
		switch {
		case !known:
			c.shown = ""
		case p.Mode == "direct" && p.Out.Packets+p.In.Packets == 0:
			c.shown = "-"
		}
		row[c.column] = number(c.shown)
	}
	return row
}

// writeFitting writes rows with the columns for which there is room.
func writeFitting(w io.Writer, st style, rows [][columns]cell, width int) {
	var widths [columns]int
	for _, row := range rows {
		for i, c := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(c.text))
		}
	}
	widths[columnNode] = max(min(widths[columnNode], max(least, width/3)), len(titles[columnNode]))
	var shown [columns]bool
	used := -len(columnGap)
	for _, c := range keep {
		if used+len(columnGap)+widths[c] > width {
			break
		}
		shown[c] = true
		used += len(columnGap) + widths[c]
	}
	for _, row := range rows {
		var line strings.Builder
		for i, c := range row {
			if !shown[i] {
				continue
			}
			if line.Len() > 0 {
				line.WriteString(columnGap)
			}
			c.text = cut(printable(c.text), widths[i])
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c.text))
			if c.right {
				line.WriteString(pad + st.paint(c.colour, c.text))
			} else {
				line.WriteString(st.paint(c.colour, c.text) + pad)
			}
		}
		fmt.Fprintln(w, strings.TrimRight(line.String(), " "))
	}
}

// packetRate returns a number of packets with three digits: 0, 12, 1.23k, 45.6k, 1.20M.
func packetRate(perSecond float64) string {
	s := strings.TrimSuffix(bitRate(perSecond), "b/s")
	return strings.ReplaceAll(strings.TrimSpace(s), " ", "")
}
