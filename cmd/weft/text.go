package main

import (
	"fmt"
	"io"
	"math"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/weft-net/weft/cmd/internal/control"
)

// style says whether text is coloured.
type style bool

// colour is a parameter of ECMA-48 SGR. The zero value leaves text as it is.
type colour string

const (
	bold   colour = "1"
	dim    colour = "2"
	red    colour = "31"
	green  colour = "32"
	yellow colour = "33"
)

func (s style) paint(c colour, text string) string {
	if !bool(s) || c == "" || text == "" {
		return text
	}
	return "\x1b[" + string(c) + "m" + text + "\x1b[0m"
}

// printable replaces what could steer a terminal. Names and reasons come from other nodes.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, s)
}

// cell is one field of a table.
type cell struct {
	text   string
	colour colour
	right  bool // aligned to the right, as numbers are
}

func text(s string) cell              { return cell{text: s} }
func painted(s string, c colour) cell { return cell{text: s, colour: c} }
func number[N int | uint64](n N) cell { return cell{text: fmt.Sprint(n), right: true} }

// columnGap separates columns.
const columnGap = "  "

// writeTable writes rows with columns aligned, each line led by indent. Columns that are empty in every row
// but the first, the headings, are left out.
func writeTable(w io.Writer, s style, indent string, rows [][]cell) {
	var widths []int
	var used []bool
	for i, row := range rows {
		for col, c := range row {
			if col == len(widths) {
				widths, used = append(widths, 0), append(used, false)
			}
			widths[col] = max(widths[col], utf8.RuneCountInString(c.text))
			used[col] = used[col] || i > 0 && c.text != ""
		}
	}
	for _, row := range rows {
		var line strings.Builder
		gap := indent // spaces owed; those at the end of a line are never paid
		for col, c := range row {
			if !used[col] && len(rows) > 1 {
				continue
			}
			pad := strings.Repeat(" ", widths[col]-utf8.RuneCountInString(c.text))
			if c.right {
				gap, pad = gap+pad, ""
			}
			if c.text != "" {
				line.WriteString(gap + s.paint(c.colour, printable(c.text)))
				gap = ""
			}
			gap += pad + columnGap
		}
		fmt.Fprintln(w, line.String())
	}
}

// headings returns the first row of a table. Those of numbers stand above the right end of their column.
func headings(names ...string) []cell {
	row := make([]cell, len(names))
	for i, name := range names {
		base, right := strings.CutPrefix(name, ">")
		row[i] = cell{text: base, colour: bold, right: right}
	}
	return row
}

// size returns a number of bytes in binary units, with one decimal.
func size(n uint64) string {
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	f, unit := float64(n)/1024, 0
	const units = "KMGTPE"
	for f >= 1023.95 && unit < len(units)-1 { // what would be shown as 1024.0
		f /= 1024
		unit++
	}
	return fmt.Sprintf("%.1f %ciB", f, units[unit])
}

// rtt returns a round trip with as many decimals as are worth reading: 0.21ms, 12.3ms, 250ms; "" for none.
func rtt(us control.Microseconds) string {
	switch ms := float64(us) / float64(time.Millisecond); {
	case us == 0:
		return ""
	case ms < 9.995:
		return fmt.Sprintf("%.2fms", ms)
	case ms < 99.95:
		return fmt.Sprintf("%.1fms", ms)
	default:
		return fmt.Sprintf("%.0fms", ms)
	}
}

// percent returns a share of 1, "" for nothing. What is more than nothing is at least 1%.
func percent(share float64) string {
	if share <= 0 {
		return ""
	}
	return fmt.Sprintf("%d%%", max(1, int(math.Round(100*share))))
}

// span returns a duration in its two largest units: 12s, 5m12s, 3h5m, 4d3h.
func span(d time.Duration) string {
	d = max(d, 0) // clocks of two nodes may differ
	day := 24 * time.Hour
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm%ds", d/time.Minute, d%time.Minute/time.Second)
	case d < day:
		return fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%dd%dh", d/day, d%day/time.Hour)
}

// count returns a number with its noun: 1 peer, 2 peers.
func count[N int | uint64](n N, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
