package static

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/fsnotify/fsnotify"
)

const (
	// maxLinks bounds the symbolic links on the way to a file, as in the kernel (MAXSYMLINKS, linux/namei.h).
	maxLinks = 40

	// maxTries bounds how often the way to the file is looked up anew because it has changed meanwhile.
	maxTries = 5
)

// rewatch has the kernel tell of changes on the way to the file as it is at the moment. The watches are made anew
// each time, since one stands for a directory and not for its path, and fsnotify confuses paths whose directories
// were exchanged.
func (f *File) rewatch() {
	var err error
	for range maxTries {
		entries := places(f.path)
		var next *watch
		next, err = newWatch(entries, f.touched)
		err = errors.Join(err, f.watch.close())
		f.watch = next
		if slices.Equal(places(f.path), entries) {
			break
		}
	}
	if err != nil && !f.late {
		f.log.Warn("changes of the file are noticed late: raise the sysctls fs.inotify.max_user_instances and fs.inotify.max_user_watches",
			"file", f.path, "within", interval, "reason", err)
	}
	f.late = err != nil
}

// places are the directory entries that decide where path leads: each symbolic link on the way, and the file, or the
// first thing that is missing. The path is absolute. The directories of the entries are real, without links on the
// way to them.
func places(path string) []string {
	var all []string
	dir, rest, links := "/", split(path), 0
	for len(rest) > 0 {
		entry := filepath.Join(dir, rest[0])
		rest = rest[1:]
		info, err := os.Lstat(entry)
		switch {
		case err != nil:
			return append(all, entry)
		case info.Mode()&os.ModeSymlink != 0:
			target, err := os.Readlink(entry)
			if all = append(all, entry); err != nil || links == maxLinks {
				return all
			}
			links++
			if filepath.IsAbs(target) {
				dir = "/"
			}
			rest = append(split(target), rest...)
		case len(rest) == 0:
			return append(all, entry)
		default:
			dir = entry
		}
	}
	return all
}

// split returns the names in path. "." and ".." are among them, since those lead elsewhere behind a link.
func split(path string) []string {
	return slices.DeleteFunc(strings.Split(path, "/"), func(name string) bool { return name == "" })
}

// watch is what the kernel watches some entries by. A nil watch watches nothing.
type watch struct {
	watcher *fsnotify.Watcher
	relay   sync.WaitGroup
}

// newWatch has touched get a token, unless it holds one, whenever one of entries, or the directory of one, changes.
func newWatch(entries []string, touched chan<- struct{}) (*watch, error) {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("open inotify: %w", err)
	}
	w := &watch{watcher: watcher}
	// What tells of errors holds a lock, which Add and Close wait for: they are taken off it all the time.
	w.relay.Go(func() { w.tell(entries, touched) })
	for _, entry := range entries {
		if err := watcher.Add(filepath.Dir(entry)); err != nil {
			_ = w.close() // the first error says more
			return nil, fmt.Errorf("watch %s: %w", filepath.Dir(entry), err)
		}
	}
	return w, nil
}

// tell hands on what concerns entries, until close.
func (w *watch) tell(entries []string, touched chan<- struct{}) {
	for {
		select {
		case e, open := <-w.watcher.Events:
			if !open {
				return
			}
			name := filepath.Clean(e.Name) // in the root it begins with two slashes
			if !slices.ContainsFunc(entries, func(entry string) bool { return name == entry || name == filepath.Dir(entry) }) {
				continue
			}
		case _, open := <-w.watcher.Errors: // so many changes at once that one of entries may have been among them
			if !open {
				return
			}
		}
		select {
		case touched <- struct{}{}:
		default:
		}
	}
}

func (w *watch) close() error {
	if w == nil {
		return nil
	}
	err := w.watcher.Close()
	w.relay.Wait()
	return err
}
