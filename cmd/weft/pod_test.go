package main

import (
	"bytes"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/weft-net/weft/cni"
	"github.com/weft-net/weft/cni/ipam"
	"github.com/weft-net/weft/cni/wiring"
)

func TestCommandBehind(t *testing.T) {
	for args, want := range map[string]string{
		"web -- ip addr": "ip addr",
		"web ip addr":    "ip addr",
		"web -- sh -- x": "sh -- x",
		"web --":         "",
		"web":            "",
	} {
		if got := strings.Join(commandBehind(strings.Fields(args)), " "); got != want {
			t.Errorf("%q: got %q, want %q", args, got, want)
		}
	}
}

// What `weft pod add` prints is what Attach has returned: of the record nothing more may be read.
func TestAttachedPod(t *testing.T) {
	c := cni.Container{ID: "weft-web", Netns: "/run/netns/weft-web", Interface: "eth0"}
	r := &types100.Result{
		Interfaces: []*types100.Interface{{Name: "cni0"}, {Name: "eth0", Mtu: 1420, Sandbox: c.Netns}, {Name: "weft0123", Mtu: 1}},
		IPs: []*types100.IPConfig{
			{Address: net.IPNet{IP: net.ParseIP("10.244.1.7"), Mask: net.CIDRMask(24, 32)}},
			{Address: net.IPNet{IP: net.ParseIP("fd00::7"), Mask: net.CIDRMask(64, 128)}},
		},
	}
	want := Pod{
		Name: "web", Netns: c.Netns, Addresses: []netip.Addr{netip.MustParseAddr("10.244.1.7"), netip.MustParseAddr("fd00::7")},
		Device: wiring.Device("weft-web", "eth0"), MTU: 1420, Since: now,
	}
	if got := attachedPod(c, r, now.Add(time.Millisecond)); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}

func TestPodOf(t *testing.T) {
	for _, test := range []struct{ netns, device, broken string }{
		{"/proc/self/ns/net", "lo", ""}, // stands for a pod's link
		{"/proc/self/ns/net", "weft00000000000", "its link is gone"},
		{"/nowhere", "weft00000000000", "its namespace is gone"},
		{"/nowhere", "lo", ""}, // the path means nothing here
	} {
		got := podOf(ipam.Attachment{Container: "weft-web", Netns: test.netns, Device: test.device})
		if got.Name != "web" || !strings.HasPrefix(got.Broken, test.broken) || (got.Broken == "") != (test.broken == "") {
			t.Errorf("%s %s: %+v", test.netns, test.device, got)
		}
	}
}

func TestRenderPods(t *testing.T) {
	for _, test := range []struct {
		pods []Pod
		want string
	}{
		{nil, "There are no pods. `weft pod add NAME` makes one.\n"},
		{[]Pod{
			{Name: "web", Addresses: []netip.Addr{netip.MustParseAddr("10.244.1.7"), netip.MustParseAddr("fd00::7")}, Device: "weft0123", MTU: 1420, Since: now.Add(-time.Minute)},
			{Name: "half", Broken: "half\x1b made"},
		}, "" +
			"NAME  ADDRESSES            DEVICE     MTU   AGE  STATE\n" +
			"web   10.244.1.7, fd00::7  weft0123  1420  1m0s  ok\n" +
			"half                                             half\ufffd made\n"},
	} {
		var out bytes.Buffer
		renderPods(&out, false, test.pods, now)
		if out.String() != test.want {
			t.Errorf("got\n%swant\n%s", out.String(), test.want)
		}
	}
}

// The records are where weftd keeps them, unless it is said otherwise.
func TestRecordsAreWeftds(t *testing.T) {
	kept, given := recordsOf(t, "weft-kept"), recordsOf(t, "weft-given")
	socket, stop := daemon(t, &backend{records: kept})
	for args, want := range map[string]string{
		"ipam list":                           "weft-kept",
		"ipam list --data-dir " + given:       "weft-given",
		"pod list --json":                     "kept",
		"pod list --json --data-dir=":         "kept",
		"pod list --json --data-dir " + given: "given",
	} {
		if got := run(t, socket, strings.Fields(args)...); got.status != 0 || !strings.Contains(got.out, want) {
			t.Errorf("%s: %+v, want %s", args, got, want)
		}
	}
	stop()
	c := &cli{socket: socket}
	for _, test := range []struct {
		dir  string
		sure bool
	}{{"", false}, {given, true}, {filepath.Join(given, "none"), false}} {
		cmd := c.podListCommand(nil)
		open := c.recordsFlag(cmd)
		if err := cmd.PersistentFlags().Set("data-dir", test.dir); err != nil {
			t.Fatal(err)
		}
		if _, sure := open(t.Context()); sure != test.sure {
			t.Errorf("without weftd, in %q: sure %t", test.dir, sure)
		}
	}
}

// recordsOf returns a directory with the records of containers, whose namespace is there and whose link is not.
func recordsOf(t *testing.T, containers ...string) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "attachments")
	for _, c := range containers {
		addRecord(t, dir, c, "/proc/self/ns/net")
	}
	return dir
}

func addRecord(t *testing.T, dir, container, netns string) {
	t.Helper()
	a := ipam.Attachment{Network: podNetwork, Container: container, Interface: "eth0", Netns: netns, Device: wiring.Device(container, "eth0"), MTU: 1420}
	_, err := ipam.Open(dir).Add(t.Context(), a, ipam.Request{Blocks: []netip.Prefix{netip.MustParsePrefix("10.244.1.0/24")}})
	if err != nil {
		t.Fatal(err)
	}
}

func damage(t *testing.T, dir, name string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(`{"addresses":["10.244.1.200"`), 0o600); err != nil {
		t.Fatal(err)
	}
}
