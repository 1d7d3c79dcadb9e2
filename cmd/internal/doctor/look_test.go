package doctor

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const udpTable = `   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
  401: 00000000:205D 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 1234 2 0000000000000000 0
  402: 0100007F:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 1235 2 0000000000000000 0
`

const tcpTable = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:1F0A 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0000000000000000 100 0 0 10 0
   1: 0100007F:9C40 0100007F:1F0A 01 00000000:00000000 00:00000000 00000000     0        0 2 1 0000000000000000 20 4 30 10 -1
`

func TestPortsIn(t *testing.T) {
	if got := portsIn([]byte(udpTable), false); !slices.Equal(got, []uint16{8285, 53}) {
		t.Errorf("UDP: %v", got)
	}
	if got := portsIn([]byte(tcpTable), true); !slices.Equal(got, []uint16{7946}) {
		t.Errorf("TCP: %v", got)
	}
}

// TestPortsOfThisMachine finds a port that is listened on.
func TestPortsOfThisMachine(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var m Machine
	m.lookAtPorts()
	if want := (Port{Protocol: "tcp", Number: uint16(l.Addr().(*net.TCPAddr).Port)}); !slices.Contains(m.Ports, want) {
		t.Errorf("%v lacks %v", m.Ports, want)
	}
}

func TestLookAtNetworks(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"10-weft.conflist":   `{"cniVersion": "1.0.0", "name": "weft", "plugins": [{"type": "weft-cni"}, {"type": "portmap"}]}`,
		"05-old.conf":        `{"cniVersion": "0.3.1", "name": "old", "type": "bridge"}`,
		"20-broken.conflist": `{"name": "broken"`,
		"30-empty.json":      `{}`,
		"10-weft.txt":        "no network",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var m Machine
	m.lookAtNetworks(dir)
	want := []Network{{File: "05-old.conf", Name: "old", Type: "bridge"}, {File: "10-weft.conflist", Name: "weft", Type: "weft-cni"}}
	if len(m.Networks) != 4 || !slices.Equal(m.Networks[:2], want) || !strings.HasPrefix(m.Networks[2].Bad, "it is no JSON") || m.Networks[3].Bad == "" {
		t.Errorf("got %+v", m.Networks)
	}
	m = Machine{}
	m.lookAtNetworks(filepath.Join(dir, "none"))
	if len(m.Networks)+len(m.Unseen) != 0 {
		t.Errorf("of a folder that is not there: %+v", m)
	}
}

func TestRuns(t *testing.T) {
	cgroups := t.TempDir()
	for _, dir := range []string{"system.slice/NetworkManager.service", "systemd/system.slice/systemd-networkd.service"} {
		if err := os.MkdirAll(filepath.Join(cgroups, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if !runs(cgroups, networkManager) || !runs(cgroups, networkd) || runs(cgroups, "firewalld") {
		t.Error("services are not told by their control groups")
	}
}

func TestChosen(t *testing.T) {
	for given, want := range map[string]string{"always [madvise] never\n": "madvise", "[never]": "never", "": "", "always [madvise": ""} {
		if got := chosen(given); got != want {
			t.Errorf("%q: %q", given, got)
		}
	}
}

func FuzzPortsIn(f *testing.F) {
	f.Add([]byte(udpTable), false)
	f.Add([]byte(tcpTable), true)
	f.Add([]byte("0: :1 0 0A\n1: 0:G000 0 0A"), true)
	f.Fuzz(func(t *testing.T, table []byte, tcp bool) {
		if n := len(portsIn(table, tcp)); n > strings.Count(string(table), "\n")+1 {
			t.Errorf("%d ports in %q", n, table)
		}
	})
}

func FuzzNetworkIn(f *testing.F) {
	f.Add([]byte(`{"name": "weft", "plugins": [{"type": "weft-cni"}]}`))
	f.Add([]byte(`{"name": 1}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if n := networkIn(text); n.Bad == "" && (n.Name == "" || n.Type == "") {
			t.Errorf("%q is taken as %+v", text, n)
		}
	})
}

func FuzzKindIn(f *testing.F) {
	f.Add([]byte("\x08\x00\x01\x00tun\x00"))
	f.Add([]byte("\x05\x00\x09\x00x\x00\x00\x00\x08\x00\x01\x00tun\x00"))
	f.Add([]byte("\xff\xff\x01\x00"))
	f.Fuzz(func(_ *testing.T, attributes []byte) { kindIn(attributes) })
}
