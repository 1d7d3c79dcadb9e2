// Package static is the source of members that do not gossip: a file that says who they are, read again
// whenever it becomes another. What its text means is for the caller to say.
//
// inotify tells of changes. A file is seldom written in place: editors rename another one over it, and a
// Kubernetes ConfigMap is a link to a link of which the inner one is swapped. So the directories are watched
// in which the way to the file is decided (watch.go), and not the file. What inotify does not tell of, such
// as a mount over a directory or a change that another machine makes to a network file system, is found by a
// look every 10 s.
package static

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

const (
	// maxSize bounds what is read, in bytes: a thousand members of a kilobyte each.
	maxSize = 1 << 20

	// quiet is how long nothing must have changed before the file is read: one that is written in place is
	// empty first, and then incomplete.
	quiet = 100 * time.Millisecond
	// busy is after how long it is read all the same.
	busy = 500 * time.Millisecond

	// interval is between looks for what nobody tells of.
	interval = 10 * time.Second
)

// Take is given the text of the file whenever that is another than before: nil where there is no file. The
// text is not to be changed. Where the file cannot be read, text is nil, and err says in one line which file,
// why, and what to do; it is given once for each reason, and then the text again.
type Take func(text []byte, err error)

// File is a watched file. Run is called once, from any goroutine.
type File struct {
	path    string // absolute
	log     *slog.Logger
	take    Take
	watch   *watch        // nil where the kernel does not tell of changes
	touched chan struct{} // capacity 1: something changed that may be the file
	late    bool          // it was said that changes are noticed late

	looked bool   // at least once
	text   []byte // that was last read
	reason string // why it could not be at the last look; "" where it could
}

// Open reads the file at path for the first time, from within this call, and begins to watch it. There need
// not be one, nor the directory it is in. The caller owns the File, and ends it by Close.
func Open(path string, log *slog.Logger, take Take) (*File, error) {
	absolute, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("find %s: %w", path, err)
	}
	f := &File{path: absolute, log: log, take: take, touched: make(chan struct{}, 1)}
	f.look()
	return f, nil
}

// Close ends the watching. Run must have returned.
func (f *File) Close() error { return f.watch.close() }

// Run calls what Open was given, in this goroutine, within a second of each change, until ctx is done. It
// returns nil.
func (f *File) Run(ctx context.Context) error {
	due := time.NewTimer(interval)
	defer due.Stop()
	for first := (time.Time{}); ; { // first of the changes that have not been looked at; zero without any
		select {
		case <-ctx.Done():
			return nil
		case <-due.C:
			f.look()
			first = time.Time{}
			due.Reset(interval)
		case <-f.touched:
			if first.IsZero() {
				first = time.Now()
			}
			due.Reset(max(0, min(quiet, busy-time.Since(first))))
		}
	}
}

// look reads the file, and hands on what is new of it. It is watched before, so that a change after that is told of.
func (f *File) look() {
	f.rewatch()
	text, err := read(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		if !f.looked || f.text != nil || f.reason != "" {
			f.log.Warn("there is no such file, which means the same as an empty one; it is waited for", "file", f.path)
		}
		text, err = nil, nil
	}
	reason := ""
	if err != nil {
		reason = err.Error()
	}
	known := f.looked && reason == f.reason && (err != nil || bytes.Equal(text, f.text))
	f.looked, f.reason = true, reason
	if err == nil {
		f.text = text
	}
	if !known {
		f.take(text, err)
	}
}

// read returns the text of the file at path; never nil where there is one.
func read(path string) ([]byte, error) {
	// A pipe without a writer would block for ever.
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, unreadable(path, err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, unreadable(path, err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file; put one in its place", path)
	}
	text, err := io.ReadAll(io.LimitReader(file, maxSize+1))
	if err != nil {
		return nil, unreadable(path, err)
	}
	if len(text) > maxSize {
		return nil, fmt.Errorf("%s has more than %d bytes: is it the right file?", path, maxSize)
	}
	return text, nil
}

func unreadable(path string, err error) error {
	if cause := errors.Unwrap(err); cause != nil { // without the path, a second time
		err = cause
	}
	return fmt.Errorf("%s cannot be read: %w; `namei -l %[1]s` shows the way to it", path, err)
}
