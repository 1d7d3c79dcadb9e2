//go:build netns && linux

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weft-net/weft/dataplane/host"
)

func newTestNetwork(t *testing.T, ipv6 bool) *network {
	t.Helper()
	n, err := newNetwork(t.TempDir(), ethernetMTU, ipv6)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

// Nothing but the mode that is asked for, carrying packets, will do.
func TestCarries(t *testing.T) {
	n := newTestNetwork(t, false)
	for answer, want := range map[string]string{
		`{"name": "node2", "mode": "vxlan", "dataPath": "works"}`:                    "",
		`{"name": "node2", "mode": "udp", "why": "a port", "dataPath": "works"}`:     `mode "udp" (a port), data path "works"`,
		`{"name": "node2", "mode": "vxlan", "dataPath": "unknown"}`:                  `mode "vxlan" (), data path "unknown"`,
		`{"name": "node3", "mode": "vxlan", "dataPath": "works"}`:                    "not among the peers",
		`{"name": "node2", "mode": "", "dataPath": "fails"}, {"name": "node3"}`:      `data path "fails"`,
		`{"name": "node3"}, {"name": "node2", "mode": "vxlan", "dataPath": "works"}`: "",
		`]`: "weft peers --json",
	} {
		weft := fmt.Sprintf("#!/bin/sh\necho '{\"peers\": [%s]}'\n", answer)
		if err := os.WriteFile(filepath.Join(n.bin, "weft"), []byte(weft), 0o700); err != nil {
			t.Fatal(err)
		}
		err := n.carries(t.Context(), n.client, n.server, "vxlan")
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", answer, err, want)
		}
	}
}

// Only a route of weft's by the other node is a direct one, and each block needs one.
func TestRoutesDirectly(t *testing.T) {
	n := newTestNetwork(t, true)
	if err := n.giveNodesIPv6(); err != nil {
		t.Fatal(err)
	}
	ipv4, ipv6 := n.server.cidrs[0].String(), n.server.cidrs[1].String()
	protocol := itoa(host.RouteProtocol)
	for _, step := range []struct {
		route []string
		want  bool
	}{
		{[]string{ipv4, "via", n.server.Addr.String()}, false}, // somebody else's
		{[]string{ipv6, "via", n.server.Addr6.String(), "proto", protocol}, false},
		{[]string{ipv4, "dev", "eth0", "proto", protocol}, false},
		{[]string{ipv4, "via", "198.51.100.3", "proto", protocol}, false},
		{[]string{ipv4, "via", n.server.Addr.String(), "proto", protocol}, true},
		{[]string{ipv6, "dev", "eth0", "proto", protocol}, false},
	} {
		if _, err := n.client.Run(t.Context(), append([]string{"ip", "route", "replace"}, step.route...)...); err != nil {
			t.Fatal(err)
		}
		if err := routesDirectly(t.Context(), n.client, n.server); (err == nil) != step.want {
			t.Errorf("after the route %v: %v", step.route, err)
		}
	}
}
