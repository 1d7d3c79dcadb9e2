package main

import (
	"bytes"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containernetworking/cni/libcni"
	"github.com/google/go-cmp/cmp"

	"github.com/weft-net/weft/cmd/internal/config"
	"github.com/weft-net/weft/cni"
	"github.com/weft-net/weft/membership"
)

// quiet is where the daemons of tests log to.
func quiet(buf *bytes.Buffer) *slog.Logger { return slog.New(slog.NewTextHandler(buf, nil)) }

// write makes a file of a test.
func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

// names are what is in dir.
func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	names := []string{}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// fakePortmap is a plugin that answers every question in the same way.
func fakePortmap(t *testing.T, dir, script string) string {
	t.Helper()
	path := filepath.Join(dir, portmapName)
	write(t, path, "#!/bin/sh\n"+script+"\n", 0o755)
	return path
}

func speaking(versions string) string {
	return `echo '{"cniVersion":"1.0.0","supportedVersions":[` + versions + `]}'`
}

// What the configuration says and what the plugin takes are the same words.
func TestWordsOfThePlugin(t *testing.T) {
	if config.WiringRouted != cni.Routed || config.WiringBridge != cni.Bridge {
		t.Errorf("wirings: %s and %s here, %s and %s there", config.WiringRouted, config.WiringBridge, cni.Routed, cni.Bridge)
	}
	if here := filepath.Join(config.DefaultStateDir, attachmentsDir); here != cni.DefaultDataDir {
		t.Errorf("attachments: %s here, %s there", here, cni.DefaultDataDir)
	}
}

func testConflist(t *testing.T) *conflist {
	t.Helper()
	dir := t.TempDir()
	return &conflist{
		dir:    filepath.Join(dir, "cni", "net.d"),
		record: filepath.Join(dir, conflistRecord),
		plugin: pluginConf{Type: pluginName, Wiring: "routed", Socket: "/run/w", DataDir: "/var/w", Capabilities: map[string]bool{"ips": true}},
	}
}

func TestConflistText(t *testing.T) {
	c := testConflist(t)
	got, err := c.text([]string{"0.4.0", "1.0.0", "1.1.0"})
	if err != nil {
		t.Fatal(err)
	}
	want := `{
  "cniVersion": "1.0.0",
  "cniVersions": [
    "0.4.0",
    "1.0.0",
    "1.1.0"
  ],
  "name": "weft",
  "plugins": [
    {
      "type": "weft-cni",
      "wiring": "routed",
      "socket": "/run/w",
      "dataDir": "/var/w",
      "capabilities": {
        "ips": true
      }
    },
    {
      "type": "portmap",
      "capabilities": {
        "portMappings": true
      }
    }
  ]
}
`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	for _, test := range []struct {
		versions        []string
		version, latest string // for runtimes that do not know cniVersions, and for those that do
		plugins         int
	}{
		{nil, "1.0.0", "1.1.0", 1},
		{[]string{"0.3.1", "0.4.0"}, "0.4.0", "0.4.0", 2},
		{[]string{"0.3.1", "0.4.0", "1.0.0"}, "1.0.0", "1.0.0", 2},
		{[]string{"1.1.0"}, "1.1.0", "1.1.0", 2},
	} {
		text, err := c.text(test.versions)
		if err != nil {
			t.Fatal(err)
		}
		list, err := libcni.NetworkConfFromBytes(text)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), `"cniVersion": "`+test.version+`"`) || list.CNIVersion != test.latest || len(list.Plugins) != test.plugins || list.Name != "weft" {
			t.Errorf("%v: version %s for libcni, %d plugins, in\n%s", test.versions, list.CNIVersion, len(list.Plugins), text)
		}
	}
}

// TestKeep has the file be what it shall be whatever happens to it.
func TestKeep(t *testing.T) {
	c := testConflist(t)
	want, err := c.text(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		name    string
		happens func() error
		written bool
	}{
		{"at first", func() error { return nil }, true},
		{"nothing", func() error { return nil }, false},
		{"it is changed", func() error { return os.WriteFile(c.path(), []byte("{}"), 0o644) }, true},
		{"it is removed", func() error { return os.Remove(c.path()) }, true},
		{"its folder is removed", func() error { return os.RemoveAll(c.dir) }, true},
		{"a crash left a draft", func() error { return os.WriteFile(draft(c.path()), bytes.Repeat([]byte("x"), 9999), 0o600) }, false},
		{"and it is removed", func() error { return os.Remove(c.path()) }, true},
	} {
		if err := step.happens(); err != nil {
			t.Fatal(err)
		}
		written, unmapped, err := c.keep()
		if written != step.written || unmapped != nil || err != nil {
			t.Errorf("%s: written is %v; %v, %v", step.name, written, unmapped, err)
		}
		got, err := os.ReadFile(c.path())
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %v\n%s", step.name, err, got)
		}
	}
	if info, err := os.Stat(c.path()); err != nil || info.Mode() != 0o644 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if got := names(t, c.dir); !slices.Equal(got, []string{conflistName}) {
		t.Errorf("in the folder is %v", got)
	}

	for _, want := range [][]string{{c.path()}, nil} {
		if removed, err := c.withdraw(); !slices.Equal(removed, want) || err != nil {
			t.Errorf("withdraw: %v, %v", removed, err)
		}
	}
}

// TestFormerConflist has no file left in a folder that the configuration does not name any
// more, as soon as it can be removed.
func TestFormerConflist(t *testing.T) {
	c := testConflist(t)
	move := func(dir string, fine bool) {
		t.Helper()
		c.dir = dir
		if err := c.move(); (err == nil) != fine {
			t.Errorf("to %q: %v", dir, err)
		}
		if dir == "" {
			return
		}
		if _, _, err := c.keep(); err != nil {
			t.Fatal(err)
		}
	}
	one, two := c.dir, c.dir+"2"
	first, second := filepath.Join(one, conflistName), filepath.Join(two, conflistName)
	move(one, true)
	move(one, true)
	move(two, true)
	if there(first) || !there(second) {
		t.Error("the file did not follow the configuration")
	}

	// The one that cannot be removed stays on record, beside the present one.
	if err := os.Remove(second); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(second, "full"), 0o700); err != nil {
		t.Fatal(err)
	}
	move(one, false)
	if err := os.Remove(filepath.Join(second, "full")); err != nil {
		t.Fatal(err)
	}
	move("", true)
	if there(first) || there(second) || there(c.record) {
		t.Errorf("there are still %v, %v or the record", first, second)
	}

	// uninstall finds it without being told the folder.
	move(one, true)
	c.dir = ""
	if removed, err := c.withdraw(); !slices.Equal(removed, []string{first}) || err != nil || there(c.record) {
		t.Errorf("withdraw: %v, %v", removed, err)
	}

	foreign := filepath.Join(t.TempDir(), "precious")
	write(t, foreign, "x", 0o600)
	write(t, c.record, foreign+"\n"+conflistName+"\n\x00", 0o600)
	if err := c.move(); err != nil || !there(foreign) {
		t.Errorf("a damaged record: %v", err)
	}
}

// TestOpenCNI has nothing about runtimes keep the pod network from starting, but for a plugin
// that is not there.
func TestOpenCNI(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "file"), "", 0o600)
	var log bytes.Buffer
	d := &daemon{machine: &machine{log: quiet(&log), config: &config.Config{StateDir: dir, Socket: "/run/w", CNIConfDir: filepath.Join(dir, "file", "net.d")}}}
	if err := d.openCNI(); err != nil {
		t.Fatal(err)
	}
	if d.attachments != filepath.Join(dir, attachmentsDir) || d.trouble.of(troubleConflist) == "" || strings.Count(log.String(), noPortmap) != 1 {
		t.Errorf("attachments in %s, troubles are %v, the log is\n%s", d.attachments, d.trouble.list(), log.String())
	}
	if !slices.Equal(d.warnings, []string{noPortmap}) {
		t.Errorf("warnings are %v", d.warnings)
	}
	if err := os.Remove(filepath.Join(dir, "file")); err != nil {
		t.Fatal(err)
	}
	view := &membership.View{}
	view.Self.Prefixes = []netip.Prefix{netip.MustParsePrefix("10.244.1.0/24")}
	d.offer(view)
	if !there(d.conflist.path()) || d.trouble.of(troubleConflist) != "" {
		t.Errorf("the folder can be made, and the file is not there: %v", d.trouble.list())
	}
}

// TestDraftIsNotRead has a file that is not whole be none of those that runtimes read.
func TestDraftIsNotRead(t *testing.T) {
	dir := t.TempDir()
	write(t, draft(filepath.Join(dir, conflistName)), "{", 0o644)
	files, err := libcni.ConfFiles(dir, []string{".conf", ".conflist", ".json"})
	if len(files) > 0 || err != nil {
		t.Errorf("%v, %v", files, err)
	}
}

func TestReplaceFileFails(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := replaceFile(path, []byte("x"), 0o644); err == nil {
		t.Error("a folder was replaced")
	}
	if got := names(t, dir); !slices.Equal(got, []string{"file"}) {
		t.Errorf("in the folder is %v", got)
	}
}

// TestShadowed names what libcni finds before this network, and nothing else.
func TestShadowed(t *testing.T) {
	for name, shadows := range map[string]bool{
		"05-other.conflist": true, "10-flannel.conflist": true, "00.conf": true, "1.json": true,
		"10-weft.conflist.bak": false, "05-other.conflist.rpmsave": false, "100-bridge.conf": false, "99-loopback.conf": false, ".05.swp": false,
	} {
		c := testConflist(t)
		if _, _, err := c.keep(); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(c.dir, name), "{}", 0o644)
		err := c.shadowed()
		if (err != nil) != shadows || shadows && !strings.Contains(err.Error(), filepath.Join(c.dir, name)) {
			t.Errorf("%s: %v", name, err)
		}
		files, err := libcni.ConfFiles(c.dir, []string{".conf", ".conflist", ".json"})
		if err != nil {
			t.Fatal(err)
		}
		if slices.Sort(files); (files[0] != c.path()) != shadows {
			t.Errorf("%s: libcni takes %s", name, files[0])
		}
	}
	c := testConflist(t)
	if err := os.MkdirAll(filepath.Join(c.dir, "05.conf"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := c.shadowed(); err != nil {
		t.Errorf("a folder: %v", err)
	}
}

func TestPortmap(t *testing.T) {
	for name, test := range map[string]struct {
		script string
		want   []string
		says   string
	}{
		"up to 1.0.0":    {speaking(`"0.1.0","0.2.0","0.3.0","0.3.1","0.4.0","1.0.0"`), []string{"0.3.1", "0.4.0", "1.0.0"}, ""},
		"later than we":  {speaking(`"1.0.0","1.1.0","1.2.0"`), []string{"1.0.0", "1.1.0"}, ""},
		"too old":        {speaking(`"0.1.0","0.2.0"`), nil, "speaks versions 0.1.0, 0.2.0 of the CNI specification, and none of 0.3.1"},
		"fails":          {"exit 3", nil, "replace or remove it"},
		"says something": {"echo hello", nil, "replace or remove it"},
		"other words":    {`echo '{"code":7,"msg":"no"}'; exit 1`, nil, "replace or remove it"},
	} {
		p := portmap{path: fakePortmap(t, t.TempDir(), test.script)}
		got, err := p.versions()
		if !slices.Equal(got, test.want) || (err == nil) != (test.says == "") || err != nil && !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	if got, err := (&portmap{}).versions(); got != nil || err != nil {
		t.Errorf("no folder: %v, %v", got, err)
	}
}

// TestPortmapIsAskedOnce has it asked again only when it is another program.
func TestPortmapIsAskedOnce(t *testing.T) {
	dir := t.TempDir()
	asked := filepath.Join(dir, "asked")
	p := portmap{path: filepath.Join(dir, portmapName)}
	ask := func(versions, times string) {
		t.Helper()
		got, err := p.versions()
		if strings.Join(got, ",") != versions || err != nil {
			t.Errorf("%v, %v; want %s", got, err, versions)
		}
		if text, _ := os.ReadFile(asked); string(text) != times {
			t.Errorf("asked %q, want %q", text, times)
		}
	}
	ask("", "")
	fakePortmap(t, dir, "printf x >>"+asked+"\n"+speaking(`"0.4.0"`))
	ask("0.4.0", "x")
	ask("0.4.0", "x")
	fakePortmap(t, dir, "printf x >>"+asked+"\n"+speaking(`"0.4.0","1.0.0"`))
	ask("0.4.0,1.0.0", "xx")
	if err := os.Remove(p.path); err != nil {
		t.Fatal(err)
	}
	ask("", "xx")
}

// TestOffer waits for the node to carry packets, and looks again only when asked.
func TestOffer(t *testing.T) {
	var log bytes.Buffer
	d := &daemon{machine: &machine{log: quiet(&log), conflist: *testConflist(t)}}
	view := &membership.View{}
	absent := func(why string) {
		t.Helper()
		d.offer(view)
		if there(d.conflist.path()) {
			t.Errorf("%s: the file is there", why)
		}
	}
	absent("no block")
	view.Self.Prefixes = []netip.Prefix{netip.MustParsePrefix("10.244.1.0/24")}
	d.trouble.say(d.log, troubleHost, os.ErrPermission)
	absent("no data path")
	d.trouble.say(d.log, troubleHost, nil)
	d.offer(view)
	if !there(d.conflist.path()) {
		t.Fatal("the file is not there")
	}
	if err := os.Remove(d.conflist.path()); err != nil {
		t.Fatal(err)
	}
	absent("not asked to look")
	write(t, filepath.Join(d.conflist.dir, "05-other.conf"), "{}", 0o644)
	d.conflist.forget()
	d.offer(view)
	if !there(d.conflist.path()) || !strings.Contains(d.trouble.of(troubleShadowed), "05-other.conf") {
		t.Errorf("not put back, or not warned: %v", d.trouble.list())
	}
	(&daemon{machine: &machine{}}).offer(view) // nobody is to be told
}

// FuzzConflistRecord has the record hold anything: weftd removes no file of another name by it, and reads what it writes.
func FuzzConflistRecord(f *testing.F) {
	for _, seed := range []string{"", "\n", "/etc/cni/net.d/" + conflistName + "\n", conflistName, "/etc/passwd\n/a/" + conflistName} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		c := conflist{record: filepath.Join(t.TempDir(), conflistRecord)}
		if err := os.WriteFile(c.record, text, 0o600); err != nil {
			t.Fatal(err)
		}
		paths, err := c.recorded()
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			if !filepath.IsAbs(path) || filepath.Base(path) != conflistName {
				t.Errorf("%q names %q", text, path)
			}
		}
		if err := c.write(paths); err != nil {
			t.Fatal(err)
		}
		if again, err := c.recorded(); err != nil || !slices.Equal(again, paths) {
			t.Errorf("%q: %q was written, and reads as %q (%v)", text, paths, again, err)
		}
	})
}
