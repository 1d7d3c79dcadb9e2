//go:build linux

package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/term"
)

// A screen shows the steps: one line each, with what belongs to it below.
type screen struct {
	out      io.Writer
	started  time.Time
	terminal bool // lines may be written over
	colour   bool
}

// newScreen shows on out. Colour is used on a terminal only.
func newScreen(out *os.File, colour bool) *screen {
	terminal := term.IsTerminal(int(out.Fd()))
	return &screen{
		out:      out,
		started:  time.Now(),
		terminal: terminal,
		colour:   terminal && colour,
	}
}

// printf ignores write errors: a closed pipe arrives as SIGPIPE, which ends the demo.
func (s *screen) printf(format string, args ...any) { _, _ = fmt.Fprintf(s.out, format, args...) }

const stepFormat = "  %s %5.1fs  %-25s  %s\n"

// begin shows on a terminal what is going on, until end.
func (s *screen) begin(title string) {
	if s.terminal {
		s.printf("  … %5.1fs  %s", s.elapsed(), title)
	}
}

// end shows how the step came out. The time is that since the start of the demo.
func (s *screen) end(title string, shown outcome, err error) {
	if s.terminal {
		s.printf("\r\x1b[K")
	}
	below := shown.lines
	detail := shown.detail
	if err != nil {
		first, rest, _ := strings.Cut(err.Error(), "\n")
		detail = first
		below = slices.Concat(strings.FieldsFunc(rest, isNewline), below)
	}
	s.printf(stepFormat, s.mark(err == nil), s.elapsed(), title, detail)
	for _, line := range below {
		s.printf("              %s\n", line)
	}
}

func (s *screen) elapsed() float64 { return time.Since(s.started).Seconds() }

func isNewline(r rune) bool { return r == '\n' }

// mark is a tick or a cross.
func (s *screen) mark(ok bool) string {
	mark, colour := "✓", "32" // green
	if !ok {
		mark, colour = "✗", "31" // red
	}
	if !s.colour {
		return mark
	}
	return "\x1b[" + colour + "m" + mark + "\x1b[0m"
}
