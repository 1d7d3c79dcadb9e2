package page

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/cmd/internal/control"
)

// backend answers with its fields, as nodes do: the counters grow from one question to the next.
type backend struct {
	control.Backend // panics at what the page must not ask for
	status          control.Status
	peers           control.PeerList
	drops           control.Drops
}

func (b *backend) Status() control.Status  { return b.status }
func (b *backend) Peers() control.PeerList { return b.peers }
func (b *backend) Drops() control.Drops    { return b.drops }

// Leave and the like fail the test that reaches them, by an answer of 200.
func (b *backend) Leave(context.Context) error { return nil }
func (b *backend) Down() error                 { return nil }
func (b *backend) Doctor(context.Context) (control.Diagnosis, error) {
	return control.Diagnosis{}, nil
}
func (b *backend) ExportKey() (control.GossipKey, error) { return control.GossipKey{}, nil }
func (b *backend) RotateKey() (control.KeyList, error) {
	return control.KeyList{}, errors.New("reached")
}

// example is a node with count peers, all up but for the third and the fourth.
func example(count int) *backend {
	b := &backend{
		status: control.Status{
			Version: "v1.2.0", Node: control.Node{ID: "q7gk3v2ydlme5xkqsltlhyyepcr4", Name: "node0"}, State: control.StateReady, Started: time.Now().Add(-27 * time.Hour),
			PodNetworks: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}, PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/24")},
			Tun:      control.Tun{Name: "weft0", Addresses: []netip.Addr{netip.MustParseAddr("10.244.0.0")}, MTU: 1444},
			Underlay: control.Underlay{Interface: "eth0", Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, MTU: 1500, Why: "default route"},
			Mode:     "auto", Tunnel: "udp", DataPort: 8285, VXLAN: control.VXLAN{Port: 4789, VNI: 1}, Masquerade: true, Firewall: "check",
			Offload: control.Offload{Workers: 2, On: []string{"tso", "gso", "gro", "rco"}, Off: map[string]string{"uso": "the TUN does not take it (Linux 6.2 or newer does)"}},
			Gossip:  control.Gossip{Address: netip.MustParseAddrPort("192.0.2.1:7946"), Encrypted: true, Members: count + 1},
			Peers:   control.PeerCount{Known: count, Up: count},
		},
		drops: control.Drops{
			Egress:  control.Direction{Received: 48211, Forwarded: 48200, Drops: map[string]uint64{"no-route": 11, "too-big": 0}},
			Ingress: control.Direction{Received: 51002, Forwarded: 51002, Drops: map[string]uint64{"malformed": 0}},
			Reasons: map[string]string{"no-route": "no node that is up owns the destination; the sender is told by ICMP"},
		},
	}
	for i := 1; i <= count; i++ {
		b.peers.Peers = append(b.peers.Peers, peer(i))
	}
	return b
}

func peer(i int) control.Peer {
	p := control.Peer{
		ID: fmt.Sprintf("id%d", i), Name: fmt.Sprintf("node%d", i), State: control.PeerUp, Since: time.Now().Add(-time.Duration(i) * time.Hour),
		Endpoint: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, byte(2 + i/250), byte(i % 250)}), 8285),
		PodCIDRs: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(244 + i/256), byte(i), 0}), 24)},
		Mode:     []string{"udp", "direct", "vxlan"}[i%3], Why: []string{"not on-link", "on-link, and proven", "it asks for vxlan"}[i%3],
		MTU: 1444, PathMTU: 1500, PathProven: true, DataPath: control.DataWorks, RTT: control.Microseconds(time.Duration(180+i*37%900) * time.Microsecond),
	}
	switch i {
	case 3:
		p.State, p.Mode, p.Why, p.DataPath, p.RTT, p.PathMTU = control.PeerDown, "", "it is down", control.DataUnknown, 0, 0
	case 4:
		p.DataPath, p.Loss, p.RTT = control.DataFails, 1, 0
	}
	return p
}

func request(method, target string, header http.Header) *http.Response {
	r := httptest.NewRequest(method, "http://127.0.0.1:8286"+target, nil)
	if host := header.Get("Host"); host != "" {
		r.Host = host
	}
	for k, v := range header {
		r.Header[k] = v
	}
	w := httptest.NewRecorder()
	Handler(control.Handler(example(2))).ServeHTTP(w, r)
	return w.Result()
}

func TestWhatIsServed(t *testing.T) {
	for path, contains := range map[string]string{
		"/": "<!doctype html>", "/page.css": "--accent", "/page.js": "fetch(", "/v1/status": `"node0"`, "/v1/peers": `"node2"`, "/v1/drops": `"no-route":11`,
	} {
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			resp := request(method, path, nil)
			body, err := io.ReadAll(resp.Body)
			if err != nil || resp.StatusCode != http.StatusOK {
				t.Errorf("%s %s: %s, %v", method, path, resp.Status, err)
			}
			if method == http.MethodGet && !strings.Contains(string(body), contains) {
				t.Errorf("%s has no %s", path, contains)
			}
			for name, want := range map[string]string{
				"Content-Security-Policy": "default-src 'self'", "Cross-Origin-Resource-Policy": "same-origin", "X-Content-Type-Options": "nosniff", "Access-Control-Allow-Origin": "",
			} {
				if got := resp.Header.Get(name); !strings.HasPrefix(got, want) || want == "" && got != "" {
					t.Errorf("%s %s: %s is %q", method, path, name, got)
				}
			}
		}
	}
}

// TestReadOnly tries every path of the control API that is not the page's, and every method that changes something.
func TestReadOnly(t *testing.T) {
	for _, path := range []string{"/v1/leave", "/v1/forget?node=node1", "/v1/keys", "/v1/keys/rotate", "/v1/keys/remove?key=x", "/v1/keys/export", "/v1/doctor", "/v1/ping?node=node1",
		"/v1/routes", "/v1/status/", "/v1/status/../leave", "/v1//leave", "/v1/%2e%2e/v1/leave", "/metrics", "/debug/pprof/", "/page.go"} {
		for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost} {
			if resp := request(method, path, nil); resp.StatusCode < 300 {
				t.Errorf("%s %s: %s", method, path, resp.Status)
			}
		}
	}
	for _, path := range []string{"/", "/page.js", "/v1/status", "/v1/peers"} {
		for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodPatch, http.MethodOptions, http.MethodTrace} {
			if resp := request(method, path, nil); resp.StatusCode != http.StatusMethodNotAllowed {
				t.Errorf("%s %s: %s", method, path, resp.Status)
			}
		}
	}
}

func TestOtherOrigins(t *testing.T) {
	for _, c := range []struct {
		path   string
		header http.Header
		status int
	}{
		{"/", http.Header{"Host": {"evil.example:8286"}}, http.StatusForbidden},
		{"/v1/status", http.Header{"Host": {"evil.example"}}, http.StatusForbidden},
		{"/v1/status", http.Header{"Host": {"127.0.0.1.evil.example"}}, http.StatusForbidden},
		{"/v1/status", http.Header{"Host": {"192.0.2.1:8286"}}, http.StatusForbidden},
		{"/v1/status", http.Header{"Host": {"[2001:db8::1]"}}, http.StatusForbidden},
		{"/v1/status", http.Header{"Host": {"localhost.evil.example"}}, http.StatusForbidden},
		{"/v1/status", http.Header{"Host": {"localhost:9000"}}, http.StatusOK},
		{"/v1/status", http.Header{"Host": {"127.8.9.10"}}, http.StatusOK},
		{"/v1/status", http.Header{"Host": {"[::1]:8286"}}, http.StatusOK},
		{"/v1/status", http.Header{"Host": {"[::1]"}}, http.StatusOK},
		{"/v1/status", http.Header{"Host": {"[::ffff:127.0.0.1]:80"}}, http.StatusOK},
		{"/v1/status", http.Header{"Sec-Fetch-Site": {"cross-site"}}, http.StatusForbidden},
		{"/v1/status", http.Header{"Sec-Fetch-Site": {"same-site"}}, http.StatusForbidden}, // another port of localhost
		{"/v1/status", http.Header{"Sec-Fetch-Site": {"same-origin"}}, http.StatusOK},
		{"/", http.Header{"Sec-Fetch-Site": {"cross-site"}}, http.StatusOK}, // a link
	} {
		if resp := request(http.MethodGet, c.path, c.header); resp.StatusCode != c.status {
			t.Errorf("%s with %v: %s, want %d", c.path, c.header, resp.Status, c.status)
		}
	}
}

func TestPrograms(t *testing.T) {
	for _, c := range []struct {
		host   string
		header http.Header
		status int
	}{
		{"weftd", nil, http.StatusOK},
		{"localhost", nil, http.StatusOK},
		{"", nil, http.StatusOK},
		{"evil.example", nil, http.StatusForbidden},
		{"localhost", http.Header{"Origin": {"http://evil.example"}}, http.StatusForbidden},
		{"localhost", http.Header{"Origin": {"null"}}, http.StatusForbidden},
		{"localhost", http.Header{"Sec-Fetch-Site": {"same-origin"}}, http.StatusForbidden},
	} {
		r := httptest.NewRequest(http.MethodPost, "http://x/v1/leave", nil)
		r.Host = c.host
		for k, v := range c.header {
			r.Header[k] = v
		}
		w := httptest.NewRecorder()
		Programs(control.Handler(example(0))).ServeHTTP(w, r)
		if w.Code != c.status {
			t.Errorf("for %q with %v: %d, want %d", c.host, c.header, w.Code, c.status)
		}
	}
}

// TestSources holds the page to what its content security policy and its readers rely on.
func TestSources(t *testing.T) {
	for name := range types {
		source, err := files.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, bad := range []string{`\.innerHTML`, `\.outerHTML`, `insertAdjacentHTML`, `document\.write`, `\beval\(`, `new Function`, `\son[a-z]+="`, `style="`, `<script>`, `@import`, `url\(`} {
			if m := regexp.MustCompile(bad).Find(source); m != nil {
				t.Errorf("%s has %s", name, m)
			}
		}
		for _, address := range regexp.MustCompile(`(https?:)?//[a-z][a-zA-Z0-9./]+`).FindAllString(string(source), -1) {
			if address != "http://www.w3.org/2000/svg" { // a name, which nobody fetches
				t.Errorf("%s has %s", name, address)
			}
		}
	}
}
