package main

import (
	"bytes"
	"os"
	"sync"
	"time"

	"golang.org/x/term"
)

// key is one that was pressed: its letter, or one of these.
type key rune

const (
	keyQuit  key = 'q'
	keyLeft  key = -'l'
	keyRight key = -'r'
)

// interrupt is what Ctrl-C sends on a terminal that makes no signal of it.
const interrupt = 3

// escapes are the sequences of keys, by the two forms that terminals send them in (xterm, normal and application cursor
// keys).
// Immutable.
var escapes = map[string]key{"\x1b[D": keyLeft, "\x1b[C": keyRight, "\x1bOD": keyLeft, "\x1bOC": keyRight}

// longestEscape bounds what is kept of a sequence that is not complete.
const longestEscape = 3

// parseKeys takes what a terminal sent apart, and returns what may be the beginning of a key.
func parseKeys(b []byte) (keys []key, rest []byte) {
next:
	for len(b) > 0 {
		switch {
		case b[0] == interrupt:
			keys, b = append(keys, keyQuit), b[1:]
		case b[0] != 0x1b:
			if 'A' <= b[0] && b[0] <= 'Z' {
				b[0] += 'a' - 'A'
			}
			keys, b = append(keys, key(b[0])), b[1:]
		default:
			for sequence, k := range escapes {
				if bytes.HasPrefix(b, []byte(sequence)) {
					keys, b = append(keys, k), b[len(sequence):]
					continue next
				}
			}
			if len(b) < longestEscape {
				return keys, b
			}
			b = b[longestEscape:] // of a key that means nothing here
		}
	}
	return keys, nil
}

// keyboard has the terminal hand over each key as it is pressed. Without one there are none, and Ctrl-C is a signal. done
// gives the terminal back as it was.
func (c *cli) keyboard() (pressed <-chan key, done func()) {
	nothing := func() {}
	if c.ask == nil {
		return nil, nothing
	}
	f, err := c.ask()
	if err != nil {
		return nil, nothing
	}
	restore, err := raw(f)
	if err != nil {
		f.Close()
		return nil, nothing
	}
	keys, quit := make(chan key), make(chan struct{})
	var reading sync.WaitGroup
	reading.Go(func() {
		buf, rest := make([]byte, 64), []byte(nil)
		for {
			n, err := f.Read(buf)
			if err != nil {
				return
			}
			var all []key
			all, rest = parseKeys(append(bytes.Clone(rest), buf[:n]...))
			for _, k := range all {
				select {
				case keys <- k:
				case <-quit:
					return
				}
			}
		}
	})
	return keys, func() {
		close(quit)
		_ = f.SetReadDeadline(time.Now()) // ends a read
		reading.Wait()
		restore()
		f.Close()
	}
}

// raw has the terminal f hand over bytes as they come, and shows none of them. The descriptor is not asked for by Fd,
// after which a read could not be interrupted.
func raw(f *os.File) (restore func(), err error) {
	conn, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	var before *term.State
	failed := conn.Control(func(fd uintptr) { before, err = term.MakeRaw(int(fd)) })
	if failed != nil {
		return nil, failed
	}
	if err != nil {
		return nil, err
	}
	return func() { _ = conn.Control(func(fd uintptr) { _ = term.Restore(int(fd), before) }) }, nil
}
