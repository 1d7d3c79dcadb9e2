package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/cni"
	"github.com/weft-net/weft/cni/ipam"
	"github.com/weft-net/weft/cni/wiring"
)

// links is a kernel that has devices, and keeps one of them whatever it is asked.
type links struct {
	cni.Kernel
	devices []string
	stuck   string
}

func (l *links) Devices() ([]string, error) { return slices.Clone(l.devices), nil }

func (l *links) Detach(device string) error {
	if device == l.stuck {
		return fmt.Errorf("%s is stuck", device)
	}
	l.devices = slices.DeleteFunc(l.devices, func(d string) bool { return d == device })
	return nil
}

func (l *links) Forget(string, []netip.Addr) error { return nil }

// runWith is run with pods' links, and with nobody at the terminal.
func runWith(ctx context.Context, kernel cni.Kernel, args ...string) result {
	var out, errOut bytes.Buffer
	c := &cli{
		out: &out, errOut: &errOut, socket: "/nowhere", now: func() time.Time { return now },
		ask:    func() (*os.File, error) { return nil, os.ErrNotExist },
		kernel: func() (cni.Kernel, func(), error) { return kernel, func() {}, nil },
	}
	return result{c.run(ctx, args), out.String(), errOut.String()}
}

// garbage is the records of a pod that runs, two that are gone, and one that is damaged, and what the kernel has of them and
// of one that has no record.
func garbage(t *testing.T) (dir string, kernel *links) {
	t.Helper()
	dir, kernel = recordsOf(t, "runs"), &links{}
	addRecord(t, dir, "gone1", "/nowhere")
	addRecord(t, dir, "gone2", "/nowhere")
	damage(t, dir, "damaged:eth0")
	for _, container := range []string{"runs", "gone1", "damaged", "orphan"} {
		kernel.devices = append(kernel.devices, wiring.Device(container, "eth0"))
	}
	return dir, kernel
}

func TestGC(t *testing.T) {
	dir, kernel := garbage(t)
	orphan := wiring.Device("orphan", "eth0")
	want := result{0, "freed 10.244.1.3 of gone1:eth0\nfreed 10.244.1.4 of gone2:eth0\nremoved " + orphan + ", which was on no record\n", ""}
	if got := runWith(t.Context(), kernel, "ipam", "gc", "--data-dir", dir); got != want {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	if left := []string{wiring.Device("runs", "eth0"), wiring.Device("damaged", "eth0")}; !slices.Equal(kernel.devices, left) {
		t.Errorf("the kernel has %v, want %v", kernel.devices, left)
	}
	for args, want := range map[string]string{"": "There is nothing to free.\n", "--json": "{\n  \"freed\": [],\n  \"devices\": []\n}\n"} {
		args := append([]string{"ipam", "gc", "--data-dir", dir}, strings.Fields(args)...)
		if got := runWith(t.Context(), kernel, args...); got != (result{0, want, ""}) {
			t.Errorf("%v again: %+v", args, got)
		}
	}
}

// One error is no reason to keep the rest, nor to be silent of it.
func TestGCGoesOn(t *testing.T) {
	for _, stuck := range []string{"gone1", "orphan"} {
		dir, kernel := garbage(t)
		kernel.stuck = wiring.Device(stuck, "eth0")
		got := runWith(t.Context(), kernel, "ipam", "gc", "--json", "--data-dir", dir)
		var done freed
		if err := json.Unmarshal([]byte(got.out), &done); err != nil {
			t.Fatalf("%v: %+v", err, got)
		}
		freed, removed := 2, 0
		if stuck == "gone1" {
			freed, removed = 1, 1
		}
		if got.status != 1 || got.errOut != "weft: "+kernel.stuck+" is stuck\n" || len(done.Freed) != freed || len(done.Devices) != removed {
			t.Errorf("%s: %+v", stuck, got)
		}
	}
	dir, kernel := garbage(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	n := &cni.Network{Store: ipam.Open(dir), Kernel: kernel}
	c := &cli{out: &bytes.Buffer{}}
	err := c.free(ctx, n, []ipam.Attachment{{Container: "gone1", Interface: "eth0"}}, nil)
	if !errors.Is(err, context.Canceled) || len(kernel.devices) != 4 {
		t.Errorf("interrupted: %v, the kernel has %v", err, kernel.devices)
	}
}

// Where the records may be elsewhere, what is on none here may be a pod's that runs.
func TestGCKeepsWhatItIsNotSureOf(t *testing.T) {
	_, kernel := garbage(t)
	all := slices.Clone(kernel.devices)
	got := runWith(t.Context(), kernel, "ipam", "gc", "--data-dir", "/nowhere")
	if got != (result{0, "There is nothing to free.\n", ""}) || !slices.Equal(kernel.devices, all) {
		t.Errorf("%+v, the kernel has %v", got, kernel.devices)
	}
}

func TestRelease(t *testing.T) {
	for what, want := range map[string]result{
		"10.244.1.3":        {0, "freed 10.244.1.3 of gone1:eth0\n", ""},
		"::ffff:10.244.1.4": {0, "freed 10.244.1.4 of gone2:eth0\n", ""},
		"gone1:eth0":        {0, "freed 10.244.1.3 of gone1:eth0\n", ""},
		"10.244.1.2":        {2, "", "weft: there is no terminal to ask on; give --yes\n"},
		"10.244.1.2 --yes":  {0, "freed 10.244.1.2 of runs:eth0\n", ""},
		"10.244.1.200 -y":   {0, "freed 10.244.1.200 of damaged:eth0\n", ""},
		"damaged:eth0 -y":   {0, "freed 10.244.1.200 of damaged:eth0\n", ""},
		"10.244.1.77":       {1, "", "weft: nothing on record has \"10.244.1.77\": give an address, or CONTAINER:INTERFACE, as `weft ipam list --json` shows them\n"},
		"orphan:eth0":       {1, "", "weft: nothing on record has \"orphan:eth0\": give an address, or CONTAINER:INTERFACE, as `weft ipam list --json` shows them\n"},
	} {
		dir, kernel := garbage(t)
		args := append([]string{"ipam", "release", "--data-dir", dir}, strings.Fields(what)...)
		if got := runWith(t.Context(), kernel, args...); got != want {
			t.Errorf("%s: got %+v, want %+v", what, got, want)
		}
		if !slices.Contains(kernel.devices, wiring.Device("orphan", "eth0")) {
			t.Errorf("%s: it has removed another device", what)
		}
	}
}

func TestRenderAttachments(t *testing.T) {
	address := func(text string) []netip.Addr { return []netip.Addr{netip.MustParseAddr(text)} }
	listed := attachmentList{
		Attachments: []attachment{
			{ipam.Attachment{Network: "weft", Container: strings.Repeat("0123456789", 6), Interface: "eth0", Pod: "default/web", Device: "weft0123", Addresses: address("10.244.1.2"), Since: now.Add(-time.Hour)}, false},
			{ipam.Attachment{Network: "weft", Container: "short", Interface: "eth0", Device: "weft4567", Addresses: address("10.244.1.3"), Since: now}, true},
		},
		Damaged: []damaged{{"bad:eth0", address("10.244.1.4"), "/x: damaged\x1b"}},
	}
	want := "" +
		"ADDRESSES   POD          CONTAINER      INTERFACE  NETWORK  DEVICE     AGE  STATE\n" +
		"10.244.1.2  default/web  0123456789012  eth0       weft     weft0123  1h0m  ok\n" +
		"10.244.1.3               short          eth0       weft     weft4567    0s  stale\n" +
		"10.244.1.4               bad:eth0                                           damaged\n" +
		"damaged: /x: damaged\ufffd\n" +
		"The namespaces of stale ones are gone; `weft ipam gc` frees what they hold.\n"
	for all, want := range map[*attachmentList]string{&listed: want, {}: "No pod has an address.\n"} {
		var out bytes.Buffer
		renderAttachments(&out, false, *all, now)
		if out.String() != want {
			t.Errorf("got\n%swant\n%s", out.String(), want)
		}
	}
}
