package host

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// record is what the kernel's parameters were before weft first set them, in a file, so that they can be put back by
// whoever comes later. It is of one run of the kernel and one network namespace: in another they have other values.
type record struct {
	file string
	recorded
}

// recorded is the content of the file.
type recorded struct {
	Life    life               `json:"life"`
	Sysctls map[string]setting `json:"sysctls"` // by path below /proc/sys
}

// setting is one parameter that weft has set.
type setting struct {
	Before string `json:"before"`
	Set    string `json:"set"`
	// Beside are other parameters, as they were before, that the kernel sets whenever this one is set.
	Beside map[string]string `json:"beside,omitempty"`
}

// openRecord reads file, which need not exist. One of another life is as good as none.
func openRecord(file string) (*record, error) {
	now, err := currentLife()
	if err != nil {
		return nil, err
	}
	r := &record{file: file, recorded: recorded{Life: now, Sysctls: make(map[string]setting)}}
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err != nil {
		return nil, err
	}
	var before recorded
	if err := json.Unmarshal(text, &before); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if before.Life.same(now) && before.Sysctls != nil {
		r.recorded = before
	}
	return r, nil
}

// note has the file hold what c's parameter is, before it is set for the first time. A nil record notes nothing.
func (r *record) note(c sysctl, now string) error {
	if r == nil || c.ours {
		return nil
	}
	if _, known := r.Sysctls[c.path]; known {
		return nil
	}
	r.Sysctls[c.path] = setting{Before: now, Set: c.value, Beside: beside(c.path)}
	if err := r.save(); err != nil {
		delete(r.Sysctls, c.path)
		return fmt.Errorf("note what sysctl %s was: %w", sysctlName(c.path), err)
	}
	return nil
}

// has says whether weft has set the parameter of that path. A nil record has none.
func (r *record) has(path string) bool {
	if r == nil {
		return false
	}
	_, known := r.Sysctls[path]
	return known
}

// beside are the present values of what the kernel sets with a parameter: inet_forward_change, net/ipv4/devinet.c, and
// addrconf_forward_change, net/ipv6/addrconf.c.
func beside(path string) map[string]string {
	var patterns []string
	switch path {
	case forwarding4:
		patterns = []string{"net/ipv4/conf/*/forwarding", "net/ipv4/conf/all/accept_redirects"}
	case forwarding6:
		patterns = []string{"net/ipv6/conf/*/forwarding"}
	}
	values := make(map[string]string)
	for _, pattern := range patterns {
		files, _ := filepath.Glob("/proc/sys/" + pattern) // whose only error is of the pattern
		for _, file := range files {
			other := sysctl{path: strings.TrimPrefix(file, "/proc/sys/")}
			if now, err := other.now(); err == nil && other.path != path {
				values[other.path] = now
			}
		}
	}
	return values
}

// save makes the file what r is, durably.
func (r *record) save() error {
	text, err := json.MarshalIndent(r.recorded, "", "  ")
	if err != nil {
		return err
	}
	draft := r.file + ".tmp"
	f, err := os.OpenFile(draft, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(text, '\n'))
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(draft, r.file); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(r.file))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// restore puts back what still has the value that weft gave it, and removes the file. What was put back it names as
// "sysctl net.ipv4.ip_forward=0". An interface that is gone has taken its parameters along.
func (r *record) restore() (restored []string, err error) {
	var errs []error
	for _, path := range slices.Sorted(maps.Keys(r.Sysctls)) {
		s := r.Sysctls[path]
		put, err := putBack(path, s.Set, s.Before)
		for _, other := range slices.Sorted(maps.Keys(s.Beside)) {
			if put && err == nil {
				_, err = putBack(other, "", s.Beside[other])
			}
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		delete(r.Sysctls, path)
		if put {
			restored = append(restored, fmt.Sprintf("sysctl %s=%s", sysctlName(path), s.Before))
		}
	}
	if len(errs) > 0 {
		return restored, errors.Join(append(errs, r.save())...)
	}
	if err := unless(fs.ErrNotExist, os.Remove(r.file)); err != nil {
		return restored, fmt.Errorf("remove the record of sysctls: %w", err)
	}
	return restored, nil
}

// putBack sets a parameter to before where it has the value expected, or any where that is "".
func putBack(path, expected, before string) (put bool, err error) {
	c := sysctl{path: path, value: before}
	now, err := c.now()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("read sysctl %s: %w", sysctlName(path), err)
	case expected != "" && now != expected:
		return false, nil
	case now == before:
		return true, nil
	}
	if err := c.set(); err != nil {
		return false, fmt.Errorf("set sysctl %s back to %s: %w", sysctlName(path), before, err)
	}
	return true, nil
}
