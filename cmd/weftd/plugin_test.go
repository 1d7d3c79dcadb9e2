package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestInstallPlugin(t *testing.T) {
	base := t.TempDir()
	source, dir := filepath.Join(base, pluginName), filepath.Join(base, "opt", "cni", "bin")
	path := filepath.Join(dir, pluginName)
	err := installPlugin(source, dir)
	if err == nil || !strings.Contains(err.Error(), source) {
		t.Errorf("without a source: %v", err)
	}
	if there(dir) {
		t.Error("a folder was made for nothing")
	}

	write(t, source, "one", 0o700)
	var before os.FileInfo
	for _, step := range []struct {
		name     string
		happens  func()
		replaced bool
	}{
		{"at first", func() {}, true},
		{"nothing", func() {}, false},
		{"an update", func() { write(t, source, "two", 0o755) }, true},
		{"another mode", func() { write(t, path, "two", 0o600) }, true},
		{"another content", func() { write(t, path, "tw", 0o755) }, true},
	} {
		step.happens()
		if err := installPlugin(source, dir); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		after, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if replaced := before == nil || !os.SameFile(before, after); replaced != step.replaced {
			t.Errorf("%s: replaced is %v", step.name, replaced)
		}
		before = after
		want, _ := os.ReadFile(source)
		if got, err := os.ReadFile(path); err != nil || string(got) != string(want) || after.Mode() != 0o755 {
			t.Errorf("%s: %q, %v, %v", step.name, got, after.Mode(), err)
		}
	}
	if got := names(t, dir); !slices.Equal(got, []string{pluginName}) {
		t.Errorf("in the folder is %v", got)
	}
}

// TestUnwritable has the error name the folder and what to do.
func TestUnwritable(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	write(t, file, "", 0o644)
	for _, dir := range []string{"/proc/weft", file, filepath.Join(file, "below")} {
		err := makeWritable(dir)
		if err == nil || !strings.Contains(err.Error(), "ReadWritePaths="+dir) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", dir, err)
		}
	}
}
