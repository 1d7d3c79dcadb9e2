//go:build netns && linux

package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// A soak of some seconds finds nothing, and says what it did.
func TestSoak(t *testing.T) {
	b, err := findBinaries("../../bin")
	if err != nil {
		t.Fatal(err)
	}
	c, err := newCluster(b)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			for _, path := range c.logPaths() {
				log, err := os.ReadFile(path)
				t.Logf("%s (%v):\n%s", path, err, log[max(0, len(log)-3000):])
			}
		}
		if err := c.close(); err != nil {
			t.Error(err)
		}
	})
	p := plan{seed: 7, idle: time.Second, abuse: 8 * time.Second, sample: time.Second, progress: 4 * time.Second, patience: time.Minute}
	rep := newReport(p)
	if err := soak(t.Context(), c, p, rep); err != nil {
		t.Error(err)
	}
	var shown bytes.Buffer
	rep.print(&shown)
	t.Log(shown.String())
	for _, failure := range rep.failed() {
		t.Error(failure)
	}
	if len(rep.Abuses) == 0 || rep.Messages == 0 || rep.Connections != 12 || len(rep.Exchanges) != 6 || len(rep.Samples) < fewest {
		t.Error("the report lacks something that must have happened")
	}
	path := filepath.Join(t.TempDir(), "out", "soak.json")
	if err := rep.write(path); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var read report
	if err := json.Unmarshal(data, &read); err != nil || read.Seed != 7 || len(read.Abuses) != len(rep.Abuses) {
		t.Errorf("soak.json has seed %d and %d abuses: %v", read.Seed, len(read.Abuses), err)
	}
}
