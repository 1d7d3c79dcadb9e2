package static

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const (
	// maxLinks bounds the symbolic links on the way to a file, as in the kernel (MAXSYMLINKS, linux/namei.h).
	maxLinks = 40

	// maxTries bounds how often the way to the file is looked up anew because it has changed meanwhile.
	maxTries = 5
)

// watch has the kernel tell of changes on the way to the file. It is done before each look, so that a change
// after that is told of, and since a watch ends with its directory.
func (f *File) watch() {
	if f.watcher == nil {
		return
	}
	var err error
	for range maxTries {
		f.entries = places(f.path)
		err = f.watchDirectories()
		if slices.Equal(places(f.path), f.entries) {
			break
		}
	}
	if err != nil {
		f.dull(err)
	}
}

func (f *File) watchDirectories() error {
	wanted := make(map[string]bool)
	for _, entry := range f.entries {
		wanted[filepath.Dir(entry)] = true
	}
	for _, dir := range f.watcher.WatchList() {
		if !wanted[dir] {
			_ = f.watcher.Remove(dir) // it may have ended by itself
		}
	}
	for dir := range wanted {
		if err := f.watcher.Add(dir); err != nil {
			return fmt.Errorf("watch %s: %w", dir, err)
		}
	}
	return nil
}

// dull says once that changes are noticed late, and why.
func (f *File) dull(err error) {
	if !f.dulled {
		f.dulled = true
		f.log.Warn("changes of the file are noticed late: raise the sysctls fs.inotify.max_user_instances and max_user_watches, and restart",
			"file", f.path, "within", interval, "reason", err)
	}
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
