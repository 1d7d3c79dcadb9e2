package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-net/weft/cmd/internal/config"
	"github.com/weft-net/weft/cmd/internal/control"
	"github.com/weft-net/weft/encap"
)

// inForce is the settings of a daemon that runs by c, and cannot reload.
func inForce(c *config.Config) *settings {
	s := &settings{level: new(slog.LevelVar), changed: make(chan struct{}, 1)}
	s.inForce.Store(c)
	return s
}

func TestReload(t *testing.T) {
	var log strings.Builder
	d := testDaemon(&log)
	d.port = new(encap.Port)
	started := loadedWith(t, "logLevel: info\n")
	d.config = started
	d.settings = inForce(started)
	var next *config.Config
	var broken error
	d.settings.load = func() (*config.Config, error) { return next, broken }

	broken = errors.Join(errors.New("weft.yaml:3: mtu: too small"), errors.New("weft.yaml:4: jion: no such key"))
	if _, err := d.Reload(); !errors.Is(err, broken) || d.current() != started || len(d.settings.changed) != 0 {
		t.Fatalf("a broken file: %v; changed: %v", err, d.current() != started)
	}
	if lines := d.trouble.list(); len(lines) != 1 || !strings.Contains(lines[0], "mtu: too small (and 1 more)") {
		t.Errorf("trouble of a broken file: %q", lines)
	}

	next, broken = loadedWith(t, "logLevel: debug\nclampMSS: true\ndataPort: 9999\n"), nil
	got, err := d.Reload()
	if err != nil {
		t.Fatal(err)
	}
	want := control.Reloaded{
		Applied: []control.KeyChange{{Key: "clampMSS", From: "false", To: "true"}, {Key: "logLevel", From: "info", To: "debug"}},
		Waiting: []control.KeyChange{{Key: "dataPort", From: "8285", To: "9999"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("reloaded (-want +got):\n%s", diff)
	}
	if c := d.current(); !c.ClampMSS || c.DataPort != 8285 || d.settings.level.Level() != slog.LevelDebug || len(d.settings.changed) != 1 {
		t.Errorf("in force: clampMSS %v, dataPort %d, log level %s, told %d times", c.ClampMSS, c.DataPort, d.settings.level, len(d.settings.changed))
	}
	if lines := d.trouble.list(); len(lines) != 0 {
		t.Errorf("trouble stays: %q", lines)
	}

	next, d.guarded = loadedWith(t, "mode: direct\nlogLevel: error\n"), errors.New("no nftables")
	if _, err := d.Reload(); err == nil || !strings.Contains(err.Error(), "no nftables") || d.settings.level.Level() != slog.LevelDebug {
		t.Errorf("a mode that does not work here: %v; log level %s", err, d.settings.level)
	}
}

// A key that a reload changes is asked for where it is in force, and nowhere of the configuration
// of the start.
func TestLiveKeysAreCurrent(t *testing.T) {
	stale := regexp.MustCompile(`\b[dm]\.config\.(Mode|Tunnel|StaticPeers|Masquerade|Firewall|ClampMSS|Join|JoinAddrs|ForgetAfter|LogLevel)\b`)
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for i, line := range strings.Split(string(text), "\n") {
			if !strings.HasSuffix(file, "_test.go") && stale.MatchString(line) {
				t.Error(fmt.Sprintf("%s:%d: ", file, i+1) + strings.TrimSpace(line))
			}
		}
	}
}
