//go:build netns

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/weft-net/weft/bench/topo"
)

// cnitoolStart gives cnitool a folder of the node's in place of /var/lib, where libcni keeps the results.
const cnitoolStart = `mount --make-rprivate / && mount --bind "$1" /var/lib && shift && exec "$@"`

// cnitool runs cnitool on the node, and returns what it prints.
func (n *node) cnitool(ctx context.Context, args ...string) (string, error) {
	return n.cnitoolWith(ctx, nil, args...)
}

// cnitoolWith is cnitool with variables in its environment.
func (n *node) cnitoolWith(ctx context.Context, environment []string, args ...string) (string, error) {
	command := append([]string{"env", "NETCONFPATH=" + n.confDir(), "CNI_PATH=" + n.binDir()}, environment...)
	command = append(command, "unshare", "--mount", "sh", "-c", cnitoolStart, "-", n.libDir(), cnitool(n.t))
	return n.Run(ctx, append(command, args...)...)
}

// mustCnitool is cnitoolWith where an error ends the test.
func (n *node) mustCnitool(environment []string, args ...string) string {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	out, err := n.cnitoolWith(ctx, environment, args...)
	if err != nil {
		n.t.Fatal(err)
	}
	return out
}

// configure replaces the configuration by one of the given version, with plugins after weft-cni.
func (n *node) configure(version, wiring string, more ...string) {
	n.t.Helper()
	weft := fmt.Sprintf(`{"type": "weft-cni", "wiring": %q, "socket": %q, "dataDir": %q, "capabilities": {"ips": true}}`, wiring, n.socket(), n.dataDir())
	list := fmt.Sprintf(`{"cniVersion": %q, "name": %q, "plugins": [%s]}`, version, chainName, strings.Join(append([]string{weft}, more...), ", "))
	if err := os.WriteFile(filepath.Join(n.confDir(), chainName+".conflist"), []byte(list), 0o600); err != nil {
		n.t.Fatal(err)
	}
}

// chainName is that of the configuration which configure writes.
const chainName = "chain"

// sandbox is a network namespace that a process holds, as that of a runtime's pod.
type sandbox struct {
	n       *node
	process *topo.Process
}

func (n *node) sandbox() *sandbox {
	n.t.Helper()
	p, err := n.Start("unshare", "--net", "busybox", "sleep", "86400")
	if err != nil {
		n.t.Fatal(err)
	}
	s := &sandbox{n, p}
	n.t.Cleanup(s.end)
	n.eventually("a pod's namespace", func(context.Context) error {
		name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", p.PID()))
		if err == nil && strings.TrimSpace(string(name)) != "busybox" {
			err = fmt.Errorf("the process is still %s", name)
		}
		return err
	})
	return s
}

func (s *sandbox) path() string { return fmt.Sprintf("/proc/%d/ns/net", s.process.PID()) }

// end has the namespace vanish.
func (s *sandbox) end() {
	s.n.t.Helper()
	if err := s.process.Kill(); err != nil {
		s.n.t.Fatal(err)
	}
}

// serve starts a web server in the namespace, as the image has it.
func (s *sandbox) serve() {
	s.n.t.Helper()
	www := s.n.path("www")
	page := filepath.Join(www, peerPage)
	err := errors.Join(os.MkdirAll(filepath.Dir(page), 0o755), os.WriteFile(page, []byte(peerScript), 0o755))
	if err != nil {
		s.n.t.Fatal(err)
	}
	if _, err := s.n.Start("nsenter", "--net="+s.path(), "busybox", "httpd", "-f", "-p", fmt.Sprint(webPort), "-h", www); err != nil {
		s.n.t.Fatal(err)
	}
}

// result is what a test looks at of ADD's.
type result struct {
	CNIVersion string
	Interfaces []struct{ Name, Mac, Sandbox string }
	IPs        []struct {
		Address   netip.Prefix
		Gateway   netip.Addr
		Interface *int
	}
	Routes []struct{ Dst, GW string }
}

// add attaches the namespace to the network of configure's.
func (s *sandbox) add(environment ...string) result {
	s.n.t.Helper()
	out := s.n.mustCnitool(environment, "add", chainName, s.path())
	var r result
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		s.n.t.Fatalf("%v: %s", err, out)
	}
	if len(r.IPs) != 2 || !s.n.has(r.IPs[0].Address.Addr()) || !s.n.has(r.IPs[1].Address.Addr()) {
		s.n.t.Fatalf("the result has other addresses: %s", out)
	}
	return r
}
