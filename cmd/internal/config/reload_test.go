package config

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func loadText(t *testing.T, text string) *Config {
	t.Helper()
	path := filepath.Join(t.TempDir(), "weft.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	l := NewLoader("node1")
	l.path = path
	c, err := l.Load(nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestReload(t *testing.T) {
	const peer = "name=linux1 address=192.0.2.9 podCIDR=10.244.9.0/24 mode=direct"
	before := loadText(t, "dataPort: 8285\nlogLevel: info\njoin: [192.0.2.1]\n")
	next := loadText(t, fmt.Sprintf("dataPort: 8286\nlogLevel: debug\njoin: [192.0.2.2]\nclampMSS: true\nstaticPeers: [%s]\nmtu: 1400\n", peer))
	live, applied, waiting := before.Reload(next)

	want := []Change{
		{"staticPeers", "", next.StaticPeers[0].String()}, {"clampMSS", "false", "true"},
		{"join", "192.0.2.1", "192.0.2.2"}, {"logLevel", "info", "debug"},
	}
	if diff := cmp.Diff(want, applied); diff != "" {
		t.Errorf("applied (-want +got):\n%s", diff)
	}
	want = []Change{{"dataPort", "8285", "8286"}, {"mtu", "0", "1400"}}
	if diff := cmp.Diff(want, waiting); diff != "" {
		t.Errorf("waiting (-want +got):\n%s", diff)
	}
	if live.DataPort != 8285 || live.MTU != 0 {
		t.Errorf("a key that waits for a restart has changed: dataPort %d, mtu %d", live.DataPort, live.MTU)
	}
	if live.LogLevel != slog.LevelDebug || !live.ClampMSS || len(live.StaticPeers) != 1 {
		t.Errorf("what was applied is not there: %+v", live)
	}
	if before.ClampMSS || before.LogLevel != slog.LevelInfo || before.Source("join") == live.Source("join") {
		t.Error("the former configuration has changed with the live one")
	}
	if _, again, _ := live.Reload(next); len(again) > 0 {
		t.Errorf("applied twice: %v", again)
	}
	if _, back, _ := live.Reload(before); len(back) != len(applied) {
		t.Errorf("%d keys changed, and %v back", len(applied), back)
	}
}

// Every key can be taken from another configuration: its value is of a type that Reload knows.
func TestEveryKeyIsTaken(t *testing.T) {
	for _, d := range definitions("node1") {
		if _, ok := d.bind(new(Config)).(taker); !ok {
			t.Errorf("%s cannot be reloaded", d.name)
		}
	}
}
