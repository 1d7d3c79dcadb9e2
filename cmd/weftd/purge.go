package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/weft-net/weft/membership"
)

// stateFiles are the patterns of what is in stateDir beside the attachments: see
// membership/id.go and state.go, membership/keyring/file.go, cni.go and lock.go.
// Immutable.
var stateFiles = []string{membership.KeyFile, membership.KeyFile + ".tmp", "state.json*", "keyring.json*", "node.cert", conflistRecord, sysctlRecord, sysctlRecord + ".tmp", "lock"}

// purgeState removes what is weft's in the state directory, and that itself where nothing
// else is there: somebody may have set it to a folder of his own.
func (u *uninstall) purgeState() error {
	dir := u.config.StateDir
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the state directory: %w", err)
	}
	if !u.purge {
		fmt.Fprintf(u.out, "kept %s, which makes this machine the same node again: --purge removes it\n", dir)
		return nil
	}
	var errs []error
	foreign := ""
	for _, e := range entries {
		switch {
		case e.Name() == attachmentsDir:
			errs = append(errs, os.RemoveAll(filepath.Join(dir, e.Name())))
		case isState(e.Name()):
			errs = append(errs, os.Remove(filepath.Join(dir, e.Name())))
		default:
			foreign = e.Name()
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("purge the state directory: %w", err)
	}
	if foreign != "" {
		u.say("what is weft's in %s, and kept the rest, such as %s", dir, foreign)
		return nil
	}
	if err := os.Remove(dir); err != nil {
		return fmt.Errorf("purge the state directory: %w", err)
	}
	u.say("%s", dir)
	return nil
}

func isState(name string) bool {
	return slices.ContainsFunc(stateFiles, func(pattern string) bool {
		matches, err := filepath.Match(pattern, name)
		return err == nil && matches
	})
}
