package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/cmd/internal/control"
	"github.com/weft-net/weft/cmd/internal/doctor"
)

// TestDoctorWithoutDaemon looks at what can be seen without weftd.
func TestDoctorWithoutDaemon(t *testing.T) {
	dir := t.TempDir()
	socket, file := filepath.Join(dir, "s"), filepath.Join(dir, "weft.yaml")
	var asked doctor.Node
	doctorOf := func(text string, args ...string) result {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		var out, errOut bytes.Buffer
		c := &cli{out: &out, errOut: &errOut, socket: socket, now: time.Now, examine: func(n doctor.Node) control.Diagnosis {
			asked = n
			return control.Diagnosis{Findings: []control.Finding{{Level: control.LevelWarning, Code: "W901", What: "clock", Fix: "chrony"}}, Checked: []string{"clock"}}
		}}
		status := c.run(t.Context(), append([]string{"doctor", "--config", file}, args...))
		return result{status, out.String(), errOut.String()}
	}
	got := doctorOf("tun: weft7\npodCIDR: 10.244.7.0/24\ndataPort: 9000\ncniConfDir: /etc/cni/net.d\nunderlay: eth1\n")
	want := `problem W001: weftd is not running (nothing listens on ` + socket + `)
  fix: start it with ` + "`systemctl start weftd` or `weftd --config /etc/weft/weft.yaml`; `journalctl -u weftd` says why it ended" + `
warning W901: clock
  fix: chrony
Checked: the configuration, clock.
`
	if got != (result{1, want, ""}) {
		t.Errorf("got %+v", got)
	}
	if asked.Running || asked.Tun != "weft7" || asked.Underlay != "eth1" || !asked.Named || len(asked.PodCIDRs) != 1 ||
		asked.CNIConfDir != "/etc/cni/net.d" || asked.Ports[0] != (doctor.Port{Protocol: "udp", Number: 9000, Key: "dataPort"}) {
		t.Errorf("asked for %+v", asked)
	}
	got = doctorOf("tunn: weft7\nmode: fast\n", "--json")
	if got.status != 1 || strings.Count(got.out, `"code": "W002"`) != 2 || !strings.Contains(got.out, file+":1") {
		t.Errorf("got %+v", got)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
}
