package node

import (
	"errors"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/weft-net/weft/cmd/internal/config"
	"github.com/weft-net/weft/cmd/internal/control"
	"github.com/weft-net/weft/cni"
	"github.com/weft-net/weft/cni/wiring"
)

// backend is a weftd that knows its status, and is asked for nothing else.
type backend struct {
	control.Backend
	status control.Status
	detach func(netns uint64, device string, gone func()) error
}

func (b *backend) Detach(netns uint64, device string, gone func()) error {
	return b.detach(netns, device, gone)
}

func (b *backend) Status() control.Status { return b.status }

// serve has handler answer on a socket until the test ends.
func serve(t *testing.T, handler http.Handler) *Daemon {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "weft.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: handler, ReadTimeout: 10 * time.Second}
	done := make(chan error)
	go func() { done <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return New(socket)
}

// TestNode asks the real API.
func TestNode(t *testing.T) {
	a, b := netip.MustParsePrefix("10.244.1.0/24"), netip.MustParsePrefix("10.244.2.0/24")
	lost := func(p string) control.Allocation {
		return control.Allocation{Lost: []control.LostBlock{{Prefix: netip.MustParsePrefix(p)}}}
	}
	four, six := netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:244::/48")
	a6 := netip.MustParsePrefix("fd00:244:0:1::/64")
	dual := func(auto bool, lost []control.LostBlock, blocks ...netip.Prefix) control.Status {
		return control.Status{State: control.StateReady, PodNetworks: []netip.Prefix{four, six}, PodCIDRs: blocks,
			Allocation: control.Allocation{Auto: auto, Lost: lost, Tentative: []netip.Prefix{a6}}, Tun: control.Tun{MTU: 1420}}
	}
	of4 := dual(true, nil, a) // by its certificate
	of4.Certificate = control.Certificate{Required: true, CIDRs: []netip.Prefix{four}}
	var weftd backend
	daemon := serve(t, control.Handler(&weftd))
	tun := control.Tun{MTU: 1420}
	long := make([]string, 10_000) // more than one read of the socket brings
	for i := range long {
		long[i] = "a node is refused"
	}
	for _, test := range []struct {
		status control.Status
		want   cni.Node
	}{
		{control.Status{State: control.StateReady, PodCIDRs: []netip.Prefix{a, b}, Tun: tun, Warnings: long},
			cni.Node{Ready: true, Blocks: []netip.Prefix{a, b}, MTU: 1420}},
		{control.Status{State: control.StateReady, PodCIDRs: []netip.Prefix{a, b}, Allocation: lost("10.244.1.0/24"), Tun: tun},
			cni.Node{Ready: true, Blocks: []netip.Prefix{b}, MTU: 1420}},
		{control.Status{State: control.StateReady, PodCIDRs: []netip.Prefix{a, b}, Allocation: lost("10.244.2.128/25"), Tun: tun},
			cni.Node{Ready: true, Blocks: []netip.Prefix{a}, MTU: 1420}},
		{control.Status{State: control.StateFenced, Reason: "another node has it", Tun: tun},
			cni.Node{Reason: "another node has it", MTU: 1420}},
		{control.Status{State: control.StateLeaving}, cni.Node{Reason: "it is leaving"}},

		// A pod gets an address of every family that it would have on a node which is whole, or it waits.
		{dual(true, nil, a, a6), cni.Node{Ready: true, Blocks: []netip.Prefix{a, a6}, MTU: 1420}},
		{dual(true, nil, a), cni.Node{Ready: true, MTU: 1420}},
		{dual(true, nil, a6), cni.Node{Ready: true, MTU: 1420}},
		{dual(true, lost("fd00:244:0:1::/64").Lost, a, a6), cni.Node{Ready: true, MTU: 1420}},
		{dual(false, lost("fd00:244:0:1::/64").Lost, a, a6), cni.Node{Ready: true, MTU: 1420}},
		{dual(false, nil, a), cni.Node{Ready: true, Blocks: []netip.Prefix{a}, MTU: 1420}},
		{of4, cni.Node{Ready: true, Blocks: []netip.Prefix{a}, MTU: 1420}},
	} {
		weftd.status = test.status
		got, err := daemon.Node(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(test.want, got, cmpopts.EquateComparable(netip.Prefix{})); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}

func TestNoWeftd(t *testing.T) {
	if _, err := New(filepath.Join(t.TempDir(), "weft.sock")).Node(t.Context()); err == nil || !strings.Contains(err.Error(), "systemctl start weftd") {
		t.Errorf("%v does not say what to start", err)
	}
	for body, code := range map[string]int{`{"error":"no such path"}`: 404, `{}`: 200, `hello`: 200} {
		daemon := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(code)
			_, _ = w.Write([]byte(body)) // the client sees what is missing
		}))
		if _, err := daemon.Node(t.Context()); err == nil || !strings.Contains(err.Error(), "right socket") {
			t.Errorf("%d %s: %v does not say that this is no weftd", code, body, err)
		}
	}
}

// TestDetach asks the real API, and does not wait for what it does behind its answer.
func TestDetach(t *testing.T) {
	own, err := wiring.Namespace()
	if err != nil {
		t.Fatal(err)
	}
	var weftd backend
	daemon := serve(t, control.Handler(&weftd))
	freed := make(chan struct{})
	weftd.detach = func(netns uint64, device string, gone func()) error {
		if netns != own || device != "weft0123456789a" {
			t.Errorf("weftd is asked for %s in namespace %d, not %d", device, netns, own)
		}
		gone()
		<-freed
		return nil
	}
	err = daemon.Detach(t.Context(), "weft0123456789a")
	close(freed)
	if err != nil {
		t.Error(err)
	}
	weftd.detach = func(uint64, string, func()) error { return errors.New("other devices are being removed") }
	if err := daemon.Detach(t.Context(), "weft0123456789a"); err == nil || !strings.Contains(err.Error(), "500") {
		t.Errorf("of a weftd that refuses: %v", err)
	}
	for _, other := range []string{"", "SSH-2.0-x\r\n", "HTTP/1.0 404 Not Found\r\n\r\n"} {
		daemon := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = conn.Write([]byte(other))
			conn.Close()
		}))
		if err := daemon.Detach(t.Context(), "weft0123456789a"); err == nil {
			t.Errorf("%q is taken for the answer of weftd", other)
		}
	}
	if err := New(filepath.Join(t.TempDir(), "weft.sock")).Detach(t.Context(), "weft0123456789a"); err == nil {
		t.Error("without weftd it is done")
	}
}

func TestDefaultSocket(t *testing.T) {
	if DefaultSocket != config.DefaultSocket {
		t.Errorf("%s, want %s", DefaultSocket, config.DefaultSocket)
	}
}

// FuzzParse: what listens there may be anything.
func FuzzParse(f *testing.F) {
	for _, answer := range []string{
		"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{\"state\":\"ready\",\"podCIDRs\":[\"10.244.1.0/24\"],\"tun\":{\"mtu\":1420}}",
		"HTTP/1.0 200 OK\r\n\r\n", "HTTP/1.0 500 \r\n\r\n{}", "", "\r\n\r\n", "SSH-2.0-x\r\n", "HTTP/1.1 200 OK\r\n\r\n{\"state\":\"\"}",
	} {
		f.Add([]byte(answer))
	}
	f.Fuzz(func(t *testing.T, answer []byte) {
		s, err := parse(answer)
		if err != nil {
			return
		}
		n := s.forPods()
		if n.Ready != (s.State == control.StateReady) || !n.Ready && n.Reason == "" || len(n.Blocks) > len(s.PodCIDRs) {
			t.Errorf("%+v of %+v", n, s)
		}
	})
}
