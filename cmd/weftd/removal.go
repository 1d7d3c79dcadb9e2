package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/weft-net/weft/cmd/internal/config"
	"github.com/weft-net/weft/cmd/internal/control"
	"github.com/weft-net/weft/dataplane/firewall"
	"github.com/weft-net/weft/dataplane/host"
)

// sysctlRecord is in stateDir.
const sysctlRecord = "sysctls.json"

// lockPatience is how long other processes may hold the store of attachments, and weftd what it
// holds until it has ended.
const lockPatience = 10 * time.Second

// removal is what down and uninstall have in common. It takes away what carries weft's marks, or
// is on weft's record, and nothing else.
type removal struct {
	config *config.Config
	out    io.Writer
	force  bool // pods may lose their network

	held    []func() error // what release undoes
	removed bool           // something, so far
}

func (u *removal) say(format string, args ...any) {
	u.removed = true
	fmt.Fprintf(u.out, "removed "+format+"\n", args...)
}

// errNotRoot is what others than root are told.
func errNotRoot(command string) error {
	return fmt.Errorf("only root can remove what weftd leaves: run `sudo weft %s`", command)
}

// endWeftd is what to do about what only one can hold.
const endWeftd = "weftd must end first, by `weft leave` or `systemctl stop weftd`: %w"

// holdState keeps a weftd from running that is this node.
func (u *removal) holdState() error {
	if !there(u.config.StateDir) {
		return nil
	}
	lock, err := lockDir(u.config.StateDir)
	if err != nil {
		return fmt.Errorf(endWeftd, err)
	}
	u.held = append(u.held, lock.Close)
	return nil
}

// holdSocket keeps any weftd from running. A socket that a killed one left goes by that.
func (u *removal) holdSocket() error {
	if !there(filepath.Dir(u.config.Socket)) {
		return nil
	}
	stale := there(u.config.Socket)
	l, err := control.Listen(u.config.Socket)
	if err != nil {
		return fmt.Errorf(endWeftd, err)
	}
	u.held = append(u.held, l.Close)
	if stale {
		u.say("%s", u.config.Socket)
	}
	return nil
}

func (u *removal) release() error {
	held := u.held
	u.held = nil
	return undoAll(held)
}

func there(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// kernel removes what a weftd that was killed has left, names it one by one, and puts the sysctls
// back. It touches nothing where one runs.
func (u *removal) kernel() (err error) {
	h, err := host.Open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	if err := u.sayAll(h.Remove()); err != nil {
		return err
	}
	f, err := firewall.Open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := u.sayAll(f.Remove()); err != nil {
		return err
	}
	if err := h.Remember(filepath.Join(u.config.StateDir, sysctlRecord)); err != nil {
		return err
	}
	restored, err := h.RestoreSysctls()
	for _, sysctl := range restored {
		u.removed = true
		fmt.Fprintln(u.out, "put back", sysctl)
	}
	return err
}

func (u *removal) sayAll(removed []string, err error) error {
	for _, what := range removed {
		u.say("%s", what)
	}
	return err
}

func (u *removal) conflist() error {
	c := conflist{record: filepath.Join(u.config.StateDir, conflistRecord)}
	if u.config.CNIConfDir != "" {
		dir, err := filepath.Abs(u.config.CNIConfDir)
		if err != nil {
			return fmt.Errorf("cniConfDir (%s): %w", u.config.Source("cniConfDir"), err)
		}
		c.dir = dir
	}
	removed, err := c.withdraw()
	for _, path := range removed {
		u.say("%s", path)
	}
	return err
}

// plugin removes weftd's copy, but not what it was copied from.
func (u *removal) plugin() error {
	if u.config.CNIBinDir == "" {
		return nil
	}
	path := filepath.Join(u.config.CNIBinDir, pluginName)
	source, err := ownPlugin()
	if err != nil {
		return err
	}
	if same(path, source) {
		return nil
	}
	removed, err := removeFile(path)
	if err != nil {
		return fmt.Errorf("remove the CNI plugin: %w", err)
	}
	if removed {
		u.say("%s", path)
	}
	return nil
}

func same(a, b string) bool {
	one, err := os.Stat(a)
	if err != nil {
		return false
	}
	other, err := os.Stat(b)
	return err == nil && os.SameFile(one, other)
}
