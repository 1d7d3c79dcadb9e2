// Package golden reads the packets of testdata/packets, for the tests of every
// package that handles packets.
//
// A file holds one packet in hex; a # starts a comment, which names the field.
// Files called malformed-* hold what must be refused.
package golden

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Packet is one file's content.
type Packet struct {
	Name  string // without folder and .hex
	Bytes []byte // the caller's own
}

// Malformed says whether the packet must be refused.
func (p Packet) Malformed() bool { return strings.HasPrefix(p.Name, "malformed-") }

// Load reads one packet.
func Load(tb testing.TB, name string) []byte {
	tb.Helper()
	text, err := os.ReadFile(filepath.Join(dir(tb), name+".hex"))
	if err != nil {
		tb.Fatal(err)
	}
	var digits strings.Builder
	for line := range strings.Lines(string(text)) {
		line, _, _ = strings.Cut(line, "#")
		digits.WriteString(strings.Join(strings.Fields(line), ""))
	}
	b, err := hex.DecodeString(digits.String())
	if err != nil {
		tb.Fatalf("%s: %v", name, err)
	}
	return b
}

// All reads every packet, in the order of their names.
func All(tb testing.TB) []Packet {
	tb.Helper()
	files, err := filepath.Glob(filepath.Join(dir(tb), "*.hex"))
	if err != nil || len(files) == 0 {
		tb.Fatalf("no golden packets in %s (%v)", dir(tb), err)
	}
	all := make([]Packet, len(files))
	for i, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".hex")
		all[i] = Packet{Name: name, Bytes: Load(tb, name)}
	}
	return all
}

// dir finds the folder from wherever below the module's root the test runs.
func dir(tb testing.TB) string {
	tb.Helper()
	root, err := os.Getwd()
	if err != nil {
		tb.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(root, "go.mod")); err == nil {
			return filepath.Join(root, "testdata", "packets")
		}
		parent := filepath.Dir(root)
		if parent == root {
			tb.Fatal("no go.mod above the test's folder")
		}
		root = parent
	}
}
