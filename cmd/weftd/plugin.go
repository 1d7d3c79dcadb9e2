package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/containernetworking/cni/pkg/invoke"
	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/cni"
)

const (
	pluginName  = "weft-cni"
	portmapName = "portmap"

	// portmapPatience bounds the question for its versions, which it answers from memory. The
	// reconciler waits for that.
	portmapPatience = 2 * time.Second
)

// ownPlugin is where the plugin lies that came with this weftd.
func ownPlugin() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find the folder of weftd: %w", err)
	}
	return filepath.Join(filepath.Dir(self), pluginName), nil
}

// installPlugin copies source into dir, where it is not there already. Runtimes may be
// starting what is replaced.
func installPlugin(source, dir string) error {
	want, err := os.ReadFile(source)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there is no %s to copy: put it beside weftd, or remove cniBinDir and see to the plugin yourself", source)
	}
	if err != nil {
		return fmt.Errorf("read the CNI plugin: %w", err)
	}
	if err := makeWritable(dir); err != nil {
		return err
	}
	path := filepath.Join(dir, pluginName)
	have, err := os.ReadFile(path)
	if info, statErr := os.Lstat(path); err == nil && statErr == nil && info.Mode() == 0o755 && bytes.Equal(have, want) {
		return nil
	}
	if err := replaceFile(path, want, 0o755); err != nil {
		return fmt.Errorf("install the CNI plugin: %w", err)
	}
	return nil
}

// makeWritable makes dir where it is missing. That a service may not write to it, though it
// is root's, is due to ProtectSystem of the unit.
func makeWritable(dir string) error {
	err := os.MkdirAll(dir, 0o755)
	if err == nil {
		if err = unix.Access(dir, unix.W_OK|unix.X_OK); err == nil {
			return nil
		}
		err = fmt.Errorf("write to %s: %w", dir, err)
	}
	return fmt.Errorf("%w: make the folder by `mkdir -p %s`, let weftd write there (in a drop-in of its systemd unit: ReadWritePaths=%[2]s), and restart weftd", err, dir)
}

// portmap is the reference plugin that maps ports, and its last answer.
type portmap struct {
	path   string      // "" where there is none to look for
	info   os.FileInfo // of the program that gave the answer; nil before
	speaks []string
}

// versions are those of weft-cni's that it speaks too, none where there is no such plugin:
// a runtime that takes a version which one of a chain's plugins does not speak runs none.
func (p *portmap) versions() ([]string, error) {
	if p.path == "" {
		return nil, nil
	}
	info, err := os.Stat(p.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for the plugin: %w", err)
	}
	if p.info != nil && os.SameFile(p.info, info) && p.info.ModTime().Equal(info.ModTime()) {
		return p.speaks, nil
	}
	speaks, err := askVersions(p.path)
	if err != nil {
		return nil, err
	}
	p.info, p.speaks = info, speaks
	return speaks, nil
}

func askVersions(path string) ([]string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), portmapPatience)
	defer cancel()
	answer, err := invoke.GetVersionInfo(ctx, path, nil)
	if err != nil {
		return nil, fmt.Errorf("ask %s for its versions: %w: replace or remove it", path, err)
	}
	ours, others := cni.Versions().SupportedVersions(), answer.SupportedVersions()
	shared := slices.DeleteFunc(slices.Clone(ours), func(v string) bool { return !slices.Contains(others, v) })
	if len(shared) == 0 {
		return nil, fmt.Errorf("%s speaks versions %s of the CNI specification, and none of %s: replace or remove it", path, strings.Join(others, ", "), strings.Join(ours, ", "))
	}
	return shared, nil
}
