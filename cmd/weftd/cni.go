package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/weft-net/weft/cni"
	"github.com/weft-net/weft/membership"
)

// What the daemon lives on with.
const (
	troubleConflist = "container runtimes are not told of this network"
	troubleShadowed = "container runtimes may use another network than weft's"
	troublePortmap  = "pods have no port mappings"
	troubleFormer   = "container runtimes may take this node's former configuration for that of a network"
)

const (
	conflistName = "10-weft.conflist"
	networkName  = "weft"

	// In stateDir.
	attachmentsDir = "attachments"
	conflistRecord = "conflist"

	// plainVersion is for runtimes that do not know cniVersions. containerd 1.6 is one, and
	// takes no results of a later version.
	plainVersion = "1.0.0"

	noPortmap = "host ports of pods do nothing: weftd looks for the portmap plugin in cniBinDir, which is not set; set it to the folder of the runtimes' plugins"
)

// openCNI puts the plugin in place, where that is asked for, and finds out whether runtimes
// can be told of this network later on.
func (d *daemon) openCNI() error {
	c := d.config
	state, err := filepath.Abs(c.StateDir)
	if err != nil {
		return fmt.Errorf("stateDir (%s): %w", c.Source("stateDir"), err)
	}
	d.attachments = filepath.Join(state, attachmentsDir)
	if c.CNIBinDir != "" {
		source, err := ownPlugin()
		if err == nil {
			err = installPlugin(source, c.CNIBinDir)
		}
		if err != nil {
			return fmt.Errorf("cniBinDir (%s): %w", c.Source("cniBinDir"), err)
		}
	}
	d.conflist = conflist{record: filepath.Join(state, conflistRecord)}
	if c.CNIConfDir != "" {
		if err := d.openConflist(); err != nil {
			return err
		}
	}
	d.trouble.say(d.log, troubleFormer, d.conflist.move())
	return nil
}

// openConflist prepares what offer writes. That it cannot be written yet is no reason to do
// without the pod network.
func (d *daemon) openConflist() error {
	c := d.config
	dir, err := filepath.Abs(c.CNIConfDir)
	if err != nil {
		return fmt.Errorf("cniConfDir (%s): %w", c.Source("cniConfDir"), err)
	}
	socket, err := filepath.Abs(c.Socket)
	if err != nil {
		return fmt.Errorf("socket (%s): %w", c.Source("socket"), err)
	}
	d.conflist.dir = dir
	d.conflist.plugin = pluginConf{Type: pluginName, Wiring: c.CNIWiring, Socket: socket, DataDir: d.attachments, Capabilities: map[string]bool{"ips": true}}
	d.trouble.say(d.log, troubleConflist, makeWritable(dir))
	if c.CNIBinDir != "" {
		d.conflist.portmap.path = filepath.Join(c.CNIBinDir, portmapName)
		return nil
	}
	d.warnings = append(d.warnings, noPortmap)
	d.log.Warn(noPortmap)
	return nil
}

// offer tells the runtimes of this network once it carries pods' packets. When it ceases
// to, or the daemon ends, the file stays: the plugin's STATUS and ADD say what is wrong,
// whereas a runtime gives up a network whose file vanishes.
func (d *daemon) offer(view *membership.View) {
	c := &d.conflist
	if c.dir == "" || c.kept || len(view.Self.Prefixes) == 0 || d.trouble.of(troubleHost) != "" {
		return
	}
	c.kept = true
	written, unmapped, err := c.keep()
	if written {
		d.log.Info("container runtimes are told of this network", "file", c.path())
	}
	d.trouble.say(d.log, troubleConflist, err)
	d.trouble.say(d.log, troublePortmap, unmapped)
	d.trouble.say(d.log, troubleShadowed, c.shadowed())
	d.trouble.say(d.log, troubleFormer, c.move())
}

// conflist is the file by which container runtimes know this network. It is for one
// goroutine at a time; the zero value is of a node that tells none.
type conflist struct {
	dir     string // "" for none
	record  string // path of a file with the paths of all that this node wrote, one to a line
	plugin  pluginConf
	portmap portmap
	kept    bool // and need not be looked at until forget
}

func (c *conflist) path() string { return filepath.Join(c.dir, conflistName) }

// forget has the file looked at again: other programs remove or change it.
func (c *conflist) forget() { c.kept = false }

// keep brings the file to what it shall be. unmapped is why there is no port mapping, in
// spite of a plugin for it.
func (c *conflist) keep() (written bool, unmapped, err error) {
	versions, unmapped := c.portmap.versions()
	want, err := c.text(versions)
	if err != nil {
		return false, unmapped, err
	}
	if have, err := os.ReadFile(c.path()); err == nil && bytes.Equal(have, want) {
		return false, unmapped, nil
	}
	if err := makeWritable(c.dir); err != nil {
		return false, unmapped, err
	}
	if err := replaceFile(c.path(), want, 0o644); err != nil {
		return false, unmapped, fmt.Errorf("write the network's configuration: %w", err)
	}
	return true, unmapped, nil
}

// networkConf is a network configuration list (CNI specification 1.1.0, section 1).
type networkConf struct {
	CNIVersion  string       `json:"cniVersion"`
	CNIVersions []string     `json:"cniVersions"`
	Name        string       `json:"name"`
	Plugins     []pluginConf `json:"plugins"`
}

type pluginConf struct {
	Type         string          `json:"type"`
	Wiring       string          `json:"wiring,omitempty"`
	Socket       string          `json:"socket,omitempty"`
	DataDir      string          `json:"dataDir,omitempty"`
	Capabilities map[string]bool `json:"capabilities"`
}

// text is the file for a portmap that speaks versions, or none.
func (c *conflist) text(versions []string) ([]byte, error) {
	list := networkConf{CNIVersions: cni.Versions().SupportedVersions(), Name: networkName, Plugins: []pluginConf{c.plugin}}
	if len(versions) > 0 {
		list.CNIVersions = versions
		list.Plugins = append(list.Plugins, pluginConf{Type: portmapName, Capabilities: map[string]bool{"portMappings": true}})
	}
	list.CNIVersion = list.CNIVersions[len(list.CNIVersions)-1]
	if slices.Contains(list.CNIVersions, plainVersion) {
		list.CNIVersion = plainVersion
	}
	text, err := json.MarshalIndent(list, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode the network's configuration: %w", err)
	}
	return append(text, '\n'), nil
}

// shadowed names what runtimes take in place of this network: of the files that libcni
// reads (ConfFiles, libcni/conf.go) the first by name.
func (c *conflist) shadowed() error {
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		return fmt.Errorf("look for other networks: %w", err)
	}
	for _, e := range entries {
		if e.Name() >= conflistName {
			break
		}
		if !e.IsDir() && slices.Contains([]string{".conf", ".conflist", ".json"}, filepath.Ext(e.Name())) {
			return fmt.Errorf("%s sorts before %s, and runtimes take the first: remove it, unless its network is the one that pods shall have", filepath.Join(c.dir, e.Name()), conflistName)
		}
	}
	return nil
}

// move withdraws the files that former configurations of weftd had in other folders, and has
// the record name this one's, before it is written.
func (c *conflist) move() error {
	before, err := c.recorded()
	if err != nil {
		return err
	}
	var now []string
	if c.dir != "" {
		now = append(now, c.path())
	}
	var errs []error
	for _, path := range before {
		if slices.Contains(now, path) {
			continue
		}
		if _, err := removeFile(path); err != nil {
			errs = append(errs, fmt.Errorf("remove the network's former configuration: %w: remove it yourself", err))
			now = append(now, path)
		}
	}
	if !slices.Equal(now, before) {
		errs = append(errs, c.write(now))
	}
	return errors.Join(errs...)
}

// recorded are the paths on record; what no weftd can have written is none.
func (c *conflist) recorded() (paths []string, err error) {
	text, err := os.ReadFile(c.record)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read where the network's configuration is: %w", err)
	}
	for path := range strings.Lines(string(text)) {
		path = strings.TrimSuffix(path, "\n")
		if filepath.IsAbs(path) && filepath.Base(path) == conflistName {
			paths = append(paths, path)
		}
	}
	return paths, nil
}

func (c *conflist) write(paths []string) (err error) {
	if len(paths) == 0 {
		_, err = removeFile(c.record)
	} else {
		err = replaceFile(c.record, []byte(strings.Join(paths, "\n")+"\n"), 0o600)
	}
	if err != nil {
		return fmt.Errorf("write down where the network's configuration is: %w", err)
	}
	return nil
}

// withdraw removes the file, and those of former configurations, and says which there were.
func (c *conflist) withdraw() (removed []string, err error) {
	paths, err := c.recorded()
	errs := []error{err}
	if c.dir != "" && !slices.Contains(paths, c.path()) {
		paths = append(paths, c.path())
	}
	var left []string
	for _, path := range paths {
		was, err := removeFile(path)
		if was {
			removed = append(removed, path)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("remove the network's configuration: %w", err))
			left = append(left, path)
		}
	}
	return removed, errors.Join(append(errs, c.write(left))...)
}
