package cni

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/skel"

	"github.com/weft-net/weft/cni/wiring"
)

func TestGC(t *testing.T) {
	b := newBed(t)
	for _, container := range []string{"kept", "gone", "other"} {
		b.want(b.call("ADD", container, ""), 0)
	}
	// One of another network, two whose records are lost, one of them valid, and one whose link went with its namespace.
	record := filepath.Join(b.dir, keyOf("other").String())
	text, err := os.ReadFile(record)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(record, []byte(strings.Replace(string(text), `"weft"`, `"another"`, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	b.kernel.ports[wiring.Device("orphan", "eth0")] = wiring.Port{}
	b.kernel.ports[wiring.Device("unrecorded", "eth0")] = wiring.Port{}
	b.want(b.call("ADD", "reboot", ""), 0)
	delete(b.kernel.ports, wiring.Device("reboot", "eth0"))

	b.daemon = fakeDaemon{err: errors.New("weftd is not running")}
	for range 2 {
		b.want(b.call("GC", "", `"cni.dev/valid-attachments":[{"containerID":"kept","ifname":"eth0"},{"containerID":"unrecorded","ifname":"eth0"},{"containerID":"never/was","ifname":""}]`), 0)
		if want := []string{"kept", "other"}; !slices.Equal(b.held(), want) || len(b.kernel.ports) != 3 {
			t.Errorf("left are the records of %v and the links %v; want %v", b.held(), b.kernel.ports, want)
		}
	}
	b.want(b.call("GC", "", ""), 0) // as libcni has it where none is valid
	if want := []string{"other"}; !slices.Equal(b.held(), want) || len(b.kernel.ports) != 1 {
		t.Errorf("left are the records of %v, want %v", b.held(), want)
	}
}

// TestGCGoesOn: one pod that cannot be removed keeps no other.
func TestGCGoesOn(t *testing.T) {
	b := newBed(t)
	for _, container := range []string{"a", "b", "c"} {
		b.want(b.call("ADD", container, ""), 0)
	}
	first := true
	b.kernel.step = func(name string) error {
		if name == "detach" && first {
			first = false
			return errInjected
		}
		return nil
	}
	b.want(b.call("GC", "", `"cni.dev/valid-attachments":[]`), 103)
	if len(b.held()) != 1 || len(b.kernel.ports) != 1 {
		t.Errorf("left are the records of %v and the links %v; want one that failed", b.held(), b.kernel.ports)
	}
}

// TestGCOfDamagedRecords: another network's is left alone, and one without a link is freed.
func TestGCOfDamagedRecords(t *testing.T) {
	b := newBed(t)
	for _, test := range []struct {
		name, text string
		linked     bool
		code       uint
		kept       bool
	}{
		{"of another network", `{"network": "another", "addr`, true, 0, true},
		{"of another network, without a link", `{"network": "another", "addr`, false, 0, true},
		{"of this network", `{"network": "weft", "addr`, true, 5, true},
		{"of this network, without a link", `{"network": "weft", "addr`, false, 0, false},
		{"of nobody knows whose, without a link", `{"net`, false, 0, false},
	} {
		b.want(b.call("ADD", "a", ""), 0)
		path := filepath.Join(b.dir, keyOf("a").String())
		if err := os.WriteFile(path, []byte(test.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if !test.linked {
			clear(b.kernel.ports)
		}
		code := b.call("GC", "", "")
		_, err := os.Stat(path)
		if code != test.code || test.kept != (err == nil) || test.linked != (len(b.kernel.ports) > 0) {
			t.Errorf("%s: code %d, record %v, links %v", test.name, code, err, b.kernel.ports)
		}
		b.want(b.call("DEL", "a", ""), 0)
	}
}

// TestGCKeepsWhatItCannotRead: nobody knows whose network a damaged record is of. It is reported, and its link stays.
func TestGCKeepsWhatItCannotRead(t *testing.T) {
	b := newBed(t)
	b.want(b.call("ADD", "a", ""), 0)
	if err := os.WriteFile(filepath.Join(b.dir, keyOf("a").String()), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := b.try("GC", &skel.CmdArgs{}, `"cni.dev/valid-attachments":[]`)
	if codeOf(err) != 5 || !strings.Contains(err.Error(), "weft ipam release a:eth0") || len(b.kernel.ports) != 1 {
		t.Errorf("%v, links %v", err, b.kernel.ports)
	}
	b.want(b.call("CHECK", "a", `"prevResult":{}`), 5)
	b.want(b.call("DEL", "a", ""), 0)
	b.empty("DEL of a damaged record")
}
