package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// backend answers with its fields.
type backend struct {
	status   Status
	peers    PeerList
	routes   RouteList
	drops    Drops
	segments SegmentList
	ping     func(ctx context.Context, id string) (Ping, error)
	doctor   func(context.Context) (Diagnosis, error)
	leave    func(context.Context) error
	forget   func(ctx context.Context, id string) (Forgotten, error)
	keys     func(what string, force bool) (KeyList, error)
	bench    func(ctx context.Context, id string, show func(BenchStep) error) error

	capture func(ctx context.Context, r CaptureRequest, show func([]CapturedPacket, uint64) error) error
	trace   func(source, destination string) (Trace, error)
	detach  func(netns uint64, device string, gone func()) error
}

func (b backend) Status() Status        { return b.status }
func (b backend) Peers() PeerList       { return b.peers }
func (b backend) Routes() RouteList     { return b.routes }
func (b backend) Drops() Drops          { return b.drops }
func (b backend) Segments() SegmentList { return b.segments }
func (b backend) Ping(ctx context.Context, id string) (Ping, error) {
	return b.ping(ctx, id)
}
func (b backend) Doctor(ctx context.Context) (Diagnosis, error) {
	return b.doctor(ctx)
}
func (b backend) Bench(ctx context.Context, id string, show func(BenchStep) error) error {
	return b.bench(ctx, id, show)
}
func (b backend) Capture(ctx context.Context, r CaptureRequest, show func([]CapturedPacket, uint64) error) error {
	return b.capture(ctx, r, show)
}
func (b backend) Trace(_ context.Context, source, destination string) (Trace, error) {
	return b.trace(source, destination)
}
func (b backend) Reload() (Reloaded, error)       { return Reloaded{}, nil }
func (b backend) Leave(ctx context.Context) error { return b.leave(ctx) }
func (b backend) Down() error                     { return nil }
func (b backend) Forget(ctx context.Context, id string) (Forgotten, error) {
	return b.forget(ctx, id)
}

func full() backend {
	endpoint := netip.MustParseAddrPort("192.0.2.2:8285")
	since := time.Date(2026, 11, 20, 10, 0, 0, 0, time.UTC)
	return backend{
		status: Status{
			Version: "v1", Node: Node{ID: "abc", Name: "node1"}, State: StateFenced, Reason: "conflict", Started: since,
			PodNetworks: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:10:244::/48")},
			PodCIDRs:    []netip.Prefix{netip.MustParsePrefix("10.244.1.0/24")},
			Allocation: Allocation{Auto: true, BlockSize4: 24, BlockSize6: 64, Waiting: "w", Tentative: []netip.Prefix{netip.MustParsePrefix("10.244.9.0/24")},
				Lost: []LostBlock{{Prefix: netip.MustParsePrefix("10.244.7.0/24"), Winner: Node{ID: "def", Name: "node2"},
					Pods: []Pod{{Address: netip.MustParseAddr("10.244.7.5"), Device: "veth5"}}}}},
			Settled: true, Certificate: Certificate{Required: true, CIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/20")}},
			Attachments: "/var/lib/weft/attachments",
			Tun:         Tun{Name: "weft0", Addresses: []netip.Addr{netip.MustParseAddr("10.244.1.0")}, MTU: 1450},
			Underlay: Underlay{Interface: "eth0", Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")},
				MTU: 1500, Why: "default route"},
			Mode: "auto", Tunnel: "udp", DataPort: 8285,
			VXLAN:      VXLAN{Port: 4789, VNI: 1, VTEPMAC: "02:00:00:00:00:01", Closed: "port in use"},
			Masquerade: true, Firewall: "check",
			Offload: Offload{Workers: 1, On: []string{"tso"}, Off: map[string]string{"rco": "excepted"}},
			Gossip: Gossip{Address: netip.MustParseAddrPort("192.0.2.1:7946"), Encrypted: true, Members: 2,
				KeyMismatches: 3, Rejected: map[string]uint64{"overlap": 1}},
			Peers: PeerCount{Known: 2, Up: 1}, Repairs: map[string]uint64{"route": 3}, Warnings: []string{"w"},
		},
		peers: PeerList{Peers: []Peer{{ID: "def", Name: "node2", State: PeerDown, Reason: "r", Since: since, Endpoint: endpoint,
			PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.2.0/24")}, Mode: "udp", Why: "not on-link",
			MTU: 1450, PathMTU: 1500, PathProven: true, DataPath: DataFails, RTT: Microseconds(212500 * time.Nanosecond), Loss: 0.25,
			Tx: Traffic{Packets: 1, Bytes: 1 << 60}, Rx: Traffic{Packets: 2, Bytes: 3}}}},
		routes: RouteList{Routes: []Route{
			{Prefix: netip.MustParsePrefix("10.244.1.0/24"), Node: "node1", ID: "abc", Local: true},
			{Prefix: netip.MustParsePrefix("10.244.2.0/24"), Node: "node2", ID: "def", Endpoint: endpoint, Mode: "udp", MTU: 1450},
		}},
		drops: Drops{
			Egress:  Direction{Received: 10, Forwarded: 8, Drops: map[string]uint64{"no_route": 2, "too_big": 0}},
			Ingress: Direction{Received: 1<<63 + 1, Forwarded: 1 << 63, Drops: map[string]uint64{"malformed": 1}}, ICMPSent: 2,
			Kernel:  Kernel{SocketOverflow: 1, TunTxDropped: 2, Spoofed: 3},
			Reasons: map[string]string{"no_route": "no node owns the destination"},
		},
		segments: SegmentList{Segments: []Segment{{Name: "office", VNI: 100, Device: "seg-office", Bridge: "br0", MTU: 1450, State: SegmentBlocked, Reason: "r",
			Members: []SegmentMember{{Node: "node2", ID: "def", Endpoint: netip.MustParseAddrPort("192.0.2.2:4789"), MTU: 1450, MACs: 3}},
			Hosts: []SegmentHost{{MAC: "02:00:00:00:00:01", Node: "node2", IPs: []netip.Addr{netip.MustParseAddr("192.168.0.2")}, Age: 7, Announced: true},
				{MAC: "02:00:00:00:00:02", Local: true, IPs: []netip.Addr{}}},
			Flooded: 1, FloodLimited: 2, Answered: 1 << 60, Duplicates: []string{"d"}}}},
	}
}

// serve serves h on a fresh socket until the test ends, and returns a client of it.
func serve(t *testing.T, h http.Handler) *Client {
	t.Helper()
	l, err := Listen(filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(h)
	srv.Listener.Close()
	srv.Listener = l
	srv.Start()
	t.Cleanup(srv.Close)
	return client(t, l.Addr().String())
}

func client(t *testing.T, path string) *Client {
	c := NewClient(path)
	t.Cleanup(c.Close)
	return c
}

func TestRoundTrip(t *testing.T) {
	want := full()
	c := serve(t, Handler(want))
	got := backend{}
	var errs [5]error
	got.status, errs[0] = c.Status(t.Context())
	got.peers, errs[1] = c.Peers(t.Context())
	got.routes, errs[2] = c.Routes(t.Context())
	got.drops, errs[3] = c.Drops(t.Context())
	got.segments, errs[4] = c.Segments(t.Context())
	if err := errors.Join(errs[:]...); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(backend{}), cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{}, netip.Prefix{})); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// TestJSON holds the names that programs rely on.
func TestJSON(t *testing.T) {
	for path, want := range map[string]string{
		pathStatus:   `{"version":"v1","node":{"id":"abc","name":"node1"},"state":"fenced","reason":"conflict","started":"2026-11-20T10:00:00Z","podNetworks":["10.244.0.0/16","fd00:10:244::/48"],"podCIDRs":["10.244.1.0/24"],"allocation":{"auto":true,"blockSize4":24,"blockSize6":64,"waiting":"w","tentative":["10.244.9.0/24"],"lost":[{"prefix":"10.244.7.0/24","winner":{"id":"def","name":"node2"},"pods":[{"address":"10.244.7.5","device":"veth5"}]}]},"settled":true,"certificate":{"required":true,"cidrs":["10.244.0.0/20"]},"attachments":"/var/lib/weft/attachments","tun":{"name":"weft0","addresses":["10.244.1.0"],"mtu":1450},"underlay":{"interface":"eth0","addresses":["192.0.2.1","2001:db8::1"],"mtu":1500,"why":"default route"},"mode":"auto","tunnel":"udp","dataPort":8285,"vxlan":{"port":4789,"vni":1,"vtepMAC":"02:00:00:00:00:01","closed":"port in use"},"masquerade":true,"firewall":"check","offload":{"workers":1,"on":["tso"],"off":{"rco":"excepted"}},"gossip":{"address":"192.0.2.1:7946","encrypted":true,"members":2,"keyMismatches":3,"rejected":{"overlap":1}},"peers":{"known":2,"up":1},"repairs":{"route":3},"warnings":["w"]}`,
		pathPeers:    `{"peers":[{"id":"def","name":"node2","static":false,"state":"down","reason":"r","since":"2026-11-20T10:00:00Z","endpoint":"192.0.2.2:8285","podCIDRs":["10.244.2.0/24"],"mode":"udp","why":"not on-link","mtu":1450,"pathMTU":1500,"pathProven":true,"dataPath":"fails","rttUs":212.5,"loss":0.25,"tx":{"packets":1,"bytes":1152921504606846976},"rx":{"packets":2,"bytes":3}}]}`,
		pathRoutes:   `{"routes":[{"prefix":"10.244.1.0/24","node":"node1","id":"abc","endpoint":"","mode":"","mtu":0,"local":true},{"prefix":"10.244.2.0/24","node":"node2","id":"def","endpoint":"192.0.2.2:8285","mode":"udp","mtu":1450,"local":false}]}`,
		pathSegments: `{"segments":[{"name":"office","vni":100,"device":"seg-office","bridge":"br0","mtu":1450,"state":"blocked","reason":"r","members":[{"node":"node2","id":"def","endpoint":"192.0.2.2:4789","mtu":1450,"macs":3}],"hosts":[{"mac":"02:00:00:00:00:01","node":"node2","local":false,"ips":["192.168.0.2"],"ageSeconds":7,"announced":true},{"mac":"02:00:00:00:00:02","node":"","local":true,"ips":[],"ageSeconds":0,"announced":false}],"flooded":1,"floodLimited":2,"answered":1152921504606846976,"duplicates":["d"]}]}`,
		pathDrops:    `{"egress":{"received":10,"forwarded":8,"drops":{"no_route":2,"too_big":0}},"ingress":{"received":9223372036854775809,"forwarded":9223372036854775808,"drops":{"malformed":1}},"icmpSent":2,"kernel":{"socketOverflow":1,"tunTxDropped":2,"spoofed":3},"reasons":{"no_route":"no node owns the destination"}}`,
	} {
		if got := get(t, Handler(full()), http.MethodGet, path); got.body != want || got.status != 200 || got.kind != "application/json" {
			t.Errorf("%s: got %+v\nwant %s", path, got, want)
		}
	}
}

func TestJSONOfNothing(t *testing.T) {
	h := Handler(backend{segments: SegmentList{Segments: []Segment{{Hosts: make([]SegmentHost, 1)}}}, status: Status{Allocation: Allocation{Lost: make([]LostBlock, 1)}}, peers: PeerList{Peers: []Peer{{ID: "a"}}}, doctor: func(context.Context) (Diagnosis, error) { return Diagnosis{}, nil }})
	for path, want := range map[string]string{
		pathStatus:   `"rejected":{}`,
		pathPeers:    `"podCIDRs":[]`,
		pathRoutes:   `{"routes":[]}`,
		pathDrops:    `"reasons":{}`,
		pathSegments: `"ips":[]`,
		pathDoctor:   `{"findings":[],"checked":[]}`,
	} {
		if got := get(t, h, http.MethodGet, path); !strings.Contains(got.body, want) || strings.Contains(got.body, "null") {
			t.Errorf("%s: got %s, want %s in it and no null", path, got.body, want)
		}
	}
}

type answer struct {
	status            int
	kind, allow, body string
}

func get(t *testing.T, h http.Handler, method, path string) answer {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, path, nil))
	return answer{w.Code, w.Header().Get("Content-Type"), w.Header().Get("Allow"), strings.TrimSpace(w.Body.String())}
}

func TestRefusals(t *testing.T) {
	h := Handler(full())
	for _, test := range []struct {
		method, path string
		want         answer
	}{
		{http.MethodGet, "/", answer{404, "application/json", "", `{"error":"no such path: /"}`}},
		{http.MethodGet, "/v1/status/", answer{404, "application/json", "", `{"error":"no such path: /v1/status/"}`}},
		{http.MethodPost, "/v2/leave", answer{404, "application/json", "", `{"error":"no such path: /v2/leave"}`}},
		{http.MethodGet, "/v1/ping", answer{400, "application/json", "", `{"error":"no node is named; give the name of one, or its ID"}`}},
		{http.MethodGet, "/v1/ping?node=", answer{400, "application/json", "", `{"error":"no node is named; give the name of one, or its ID"}`}},
		{http.MethodGet, "/v1/ping?node=nod2", answer{400, "application/json", "", `{"error":"no other node is called \"nod2\"; did you mean node2?"}`}},
		{http.MethodPost, "/v1/ping?node=node2", answer{405, "application/json", "GET", `{"error":"/v1/ping takes GET, not POST"}`}},
		{http.MethodPost, pathStatus, answer{405, "application/json", "GET", `{"error":"/v1/status takes GET, not POST"}`}},
		{http.MethodPost, "/v1/forget", answer{400, "application/json", "", `{"error":"no node is named; give the name of one, or its ID"}`}},
		{http.MethodGet, "/v1/forget?node=node2", answer{405, "application/json", "POST", `{"error":"/v1/forget takes POST, not GET"}`}},
		{http.MethodGet, pathLeave, answer{405, "application/json", "POST", `{"error":"/v1/leave takes POST, not GET"}`}},
	} {
		if got := get(t, h, test.method, test.path); got != test.want {
			t.Errorf("%s %s: got %+v, want %+v", test.method, test.path, got, test.want)
		}
	}
}

func TestLeave(t *testing.T) {
	for _, want := range []error{nil, errors.New("no peer confirmed the departure within 5s")} {
		called := 0
		c := serve(t, Handler(backend{leave: func(context.Context) error { called++; return want }}))
		err := c.Leave(t.Context())
		if want == nil && err != nil || want != nil && (err == nil || err.Error() != "weftd: "+want.Error()) || called != 1 {
			t.Errorf("leave was called %d times; got %v, want %v", called, err, want)
		}
	}
}

func TestForget(t *testing.T) {
	b := full()
	want := Forgotten{Node: Node{ID: "def", Name: "node2"}, PodCIDRs: b.peers.Peers[0].PodCIDRs}
	var fails error
	asked := 0
	b.forget = func(_ context.Context, id string) (Forgotten, error) {
		asked++
		if id != "def" {
			t.Errorf("the backend is asked to forget %q", id)
		}
		return want, fails
	}
	c := serve(t, Handler(b))
	if got, err := c.Forget(t.Context(), "node2"); err != nil || !cmp.Equal(got, want, cmpopts.EquateComparable(netip.Prefix{})) {
		t.Errorf("got %+v, %v", got, err)
	}
	fails = errors.New("is alive")
	if _, err := c.Forget(t.Context(), "node2"); err == nil || err.Error() != "weftd: is alive" {
		t.Errorf("got %v", err)
	}
	if got := get(t, Handler(backend{peers: b.peers, forget: func(context.Context, string) (Forgotten, error) { return Forgotten{}, nil }}),
		http.MethodPost, "/v1/forget?node=node2"); got.body != `{"node":{"id":"","name":""},"podCIDRs":[]}` {
		t.Errorf("got %+v", got)
	}

	// Who is there is not forgotten, whatever the backend thinks.
	for state, want := range map[string]string{
		PeerUp:   "weftd: node2 is up, and would only be back at once; run `weft leave` there, or stop its weftd and ask again",
		PeerLeft: "weftd: node2 has left already, and none of its blocks is reserved",
		"static": "weftd: node2 is a static peer, which no gossip knows of; remove it from the configuration",
	} {
		asked = 0
		b.peers.Peers[0].State, b.peers.Peers[0].Static = state, state == "static"
		if _, err := c.Forget(t.Context(), "node2"); err == nil || err.Error() != want || asked != 0 {
			t.Errorf("%s: asked %d times, got %v, want %s", state, asked, err, want)
		}
	}
}

// TestLeaveEndsWithClient shows that a client which gives up does not leave the daemon at work for ever.
func TestLeaveEndsWithClient(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	c := serve(t, Handler(backend{leave: func(ctx context.Context) error {
		cancel()
		select {
		case <-ctx.Done():
		case <-time.After(10 * time.Second):
		}
		ended <- ctx.Err()
		return ctx.Err()
	}}))
	if err := c.Leave(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("client: got %v", err)
	}
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("daemon: got %v", err)
	}
}

func TestDown(t *testing.T) {
	dir := t.TempDir()
	crashed := filepath.Join(dir, "crashed")
	leaveStale(t, crashed)
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{filepath.Join(dir, "absent"), crashed, file} {
		want := "weftd is not running (nothing listens on " + path + "); start it with `systemctl start weftd` or `weftd --config /etc/weft/weft.yaml`"
		if _, err := client(t, path).Status(t.Context()); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestSlowAnswer(t *testing.T) {
	release := make(chan struct{})
	c := serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}))
	defer close(release)
	_, err := ask[Status](t.Context(), c, http.MethodGet, pathStatus, 20*time.Millisecond)
	want := "weftd: no answer on " + c.socket + " within 20ms; see what it does with `journalctl -u weftd`"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// TestForeignAnswers has something else than this weftd at the other end.
func TestForeignAnswers(t *testing.T) {
	const other = "no weftd answers on SOCKET, something else does: is it the right socket? ("
	for name, test := range map[string]struct{ answer, want string }{
		"other protocol": {"SSH-2.0-OpenSSH_9.2\r\n", other + `net/http: HTTP/1.x transport connection broken: malformed HTTP response "SSH-2.0-OpenSSH_9.2")`},
		"not JSON":       {"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>", other + "invalid character '<'"},
		"other JSON":     {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", other + "json: cannot unmarshal array"},
		"other server":   {"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\noops", other + "HTTP status 404 for /v1/status)"},
		"older weftd": {"HTTP/1.1 404 Not Found\r\nContent-Length: 30\r\n\r\n" + `{"error":"no such path: /v1/"}`,
			"this weftd does not know /v1/status; weft and weftd are of different versions: compare `weft version` with `weftd version`"},
		"half an answer": {"HTTP/1.1 200 OK\r\nContent-Length: 60\r\n\r\n{", "weftd hung up in the middle of an answer on SOCKET; see why with `journalctl -u weftd`"},
		"no answer":      {"", "weftd hung up in the middle of an answer on SOCKET"},
	} {
		t.Run(name, func(t *testing.T) {
			c := client(t, rawServer(t, test.answer))
			_, err := c.Status(t.Context())
			want := strings.ReplaceAll(test.want, "SOCKET", c.socket)
			if err == nil || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v\nwant %s", err, want)
			}
		})
	}
}

// rawServer answers every connection with the same bytes and hangs up.
func rawServer(t *testing.T, answer string) (path string) {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { l.Close(); <-done })
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
				io.WriteString(conn, answer)
			}
			conn.Close()
		}
	}()
	return l.Addr().String()
}

func TestUnaccounted(t *testing.T) {
	for _, test := range []struct {
		d    Direction
		want int64
	}{
		{full().drops.Egress, 0},
		{full().drops.Ingress, 0},
		{Direction{Received: 5, Forwarded: 2, Drops: map[string]uint64{"a": 1}}, 2},
		{Direction{Received: 5, Forwarded: 5, Drops: map[string]uint64{"a": 1}}, -1},
	} {
		if got := test.d.Unaccounted(); got != test.want {
			t.Errorf("%+v: got %d, want %d", test.d, got, test.want)
		}
	}
}

// FuzzAnswer feeds the client any body: it must return an answer or one line.
func FuzzAnswer(f *testing.F) {
	status, _ := json.Marshal(full().status)
	f.Add(status)
	f.Add([]byte(`{"podCIDRs":["10.0.0.0/99"],"tun":{"addresses":["::1%"]}}`))
	f.Add([]byte("{\"started\":\"\\u0000\n\"}"))
	f.Fuzz(func(t *testing.T, body []byte) {
		l := &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
		srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(body) })}
		served := make(chan struct{})
		go func() { defer close(served); srv.Serve(l) }()
		defer func() { srv.Close(); <-served }()
		c := &Client{socket: "SOCKET", http: &http.Client{Transport: &http.Transport{DialContext: l.dial}}}
		defer c.Close()
		if _, err := c.Status(t.Context()); err != nil && strings.Contains(err.Error(), "\n") {
			t.Errorf("error of several lines: %q", err)
		}
	})
}

// pipeListener accepts the far ends of pipes in memory.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (l *pipeListener) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case l.conns <- far:
		return near, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error   { close(l.closed); return nil }
func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }
