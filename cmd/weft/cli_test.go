package main

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/weft-net/weft/cmd/internal/config"
	"github.com/weft-net/weft/cmd/internal/control"
)

// asNobody, as the first argument of the test binary, makes it weft run by a user without rights.
const asNobody = "-as-nobody"

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == asNobody {
		os.Exit(runAsNobody(os.Args[2:]))
	}
	goleak.VerifyTestMain(m)
}

func runAsNobody(args []string) int {
	const nobody = 65534
	if err := errors.Join(syscall.Setgroups(nil), syscall.Setgid(nobody), syscall.Setuid(nobody)); err != nil {
		panic(err)
	}
	c := &cli{out: os.Stdout, errOut: os.Stderr, now: time.Now}
	return c.run(context.Background(), args)
}

// now is when the tests take place.
var now = time.Date(2026, 11, 20, 15, 4, 5, 0, time.UTC)

// backend is a daemon that counts up the version it reports, so that frames differ.
type backend struct {
	asked    atomic.Int64
	leaveErr error

	reloaded  control.Reloaded
	reloadErr error
	left      atomic.Int64
	pings     []control.Ping // answered in turn, the last for ever; none is an error
	doctor    control.Diagnosis
	bench     func(id string, show func(control.BenchStep) error) error
	captured  func(ctx context.Context, r control.CaptureRequest, show func([]control.CapturedPacket, uint64) error) error
	traced    func(source, destination string) (control.Trace, error)
	keys      keyRing
	forget    func(id string) (control.Forgotten, error)
	records   string // directory of attachments
}

func (b *backend) Status() control.Status {
	s := sampleStatus()
	s.Peers.Up = int(b.asked.Add(1))
	s.Attachments = b.records
	return s
}
func (b *backend) Peers() control.PeerList       { return samplePeers() }
func (b *backend) Routes() control.RouteList     { return sampleRoutes() }
func (b *backend) Drops() control.Drops          { return sampleDrops() }
func (b *backend) Segments() control.SegmentList { return sampleSegments() }
func (b *backend) Ping(_ context.Context, id string) (control.Ping, error) {
	n := int(b.asked.Add(1)) - 1
	if len(b.pings) == 0 || id != samplePeers().Peers[1].ID {
		return control.Ping{}, errors.New("weftd is starting")
	}
	return b.pings[min(n, len(b.pings)-1)], nil
}
func (b *backend) Doctor(context.Context) (control.Diagnosis, error) { return b.doctor, nil }

func (b *backend) Bench(_ context.Context, id string, show func(control.BenchStep) error) error {
	return b.bench(id, show)
}

func (b *backend) Capture(ctx context.Context, r control.CaptureRequest, show func([]control.CapturedPacket, uint64) error) error {
	return b.captured(ctx, r, show)
}

func (b *backend) Trace(_ context.Context, source, destination string) (control.Trace, error) {
	return b.traced(source, destination)
}

func (b *backend) Reload() (control.Reloaded, error) { return b.reloaded, b.reloadErr }

func (b *backend) Leave(context.Context) error { b.left.Add(1); return b.leaveErr }
func (b *backend) Down() error                 { return nil }

func (b *backend) Detach(uint64, string, func()) error { return nil }

func (b *backend) Forget(_ context.Context, id string) (control.Forgotten, error) {
	return b.forget(id)
}

// daemon serves b on a socket until the test ends or stop is called.
func daemon(t *testing.T, b control.Backend) (socket string, stop func()) {
	t.Helper()
	l, err := control.Listen(filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(control.Handler(b))
	srv.Listener.Close()
	srv.Listener = l
	srv.Start()
	t.Cleanup(srv.Close)
	return l.Addr().String(), srv.Close
}

// result is what a call of weft did.
type result struct {
	status      int
	out, errOut string
}

func run(t *testing.T, socket string, args ...string) result {
	t.Helper()
	var out, errOut bytes.Buffer
	c := &cli{
		out: &out, errOut: &errOut, socket: socket,
		now:    func() time.Time { return now },
		ticker: func(time.Duration) (<-chan time.Time, func()) { return nil, func() {} },
	}
	status := c.run(t.Context(), args)
	return result{status, out.String(), errOut.String()}
}

func TestUsageErrors(t *testing.T) {
	for args, want := range map[string]string{
		"statsu":                             "unknown command \"statsu\"; did you mean `weft status`?",
		"statsu --watch":                     "unknown command \"statsu\"; did you mean `weft status`?",
		"--socket /x statsu":                 "unknown command \"statsu\"; did you mean `weft status`?",
		"dance":                              "unknown command \"dance\"; `weft help` lists them all",
		"help peesr":                         "unknown command \"peesr\"; did you mean `weft peers`?",
		"status --jsno":                      "unknown flag: --jsno; did you mean --json?",
		"--wach":                             "unknown flag: --wach; --help lists the flags",
		"drops --al":                         "unknown flag: --al; did you mean --all?",
		"status -x":                          "unknown shorthand flag: 'x' in -x; --help lists the flags",
		"status --socket":                    "flag needs an argument: --socket",
		"status now":                         "weft status takes no arguments, but got \"now\"; see `weft status --help`",
		"segments a b":                       "weft segments takes one segment, or none, but got 2; for instance `weft segments office`",
		"leave node1":                        "weft leave takes no arguments, but got \"node1\"; see `weft leave --help`",
		"forget":                             "weft forget takes one node, but got 0; for instance `weft forget node2`",
		"forget a b":                         "weft forget takes one node, but got 2; for instance `weft forget node2`",
		"pod ad web":                         "unknown command \"pod ad\"; see `weft pod --help`",
		"pod add":                            "weft pod add takes the name of one pod, but got 0",
		"pod add a b":                        "weft pod add takes the name of one pod, but got 2",
		"pod add Web":                        "\"Web\" is no name for a pod: up to 40 small letters, digits and dashes, a letter first",
		"pod add web-":                       "\"web-\" is no name for a pod: up to 40 small letters, digits and dashes, a letter first",
		"pod add web --ip 10.244.1":          "--ip \"10.244.1\" is no address: give one such as 10.244.1.7",
		"pod del ../web":                     "\"../web\" is no name for a pod: up to 40 small letters, digits and dashes, a letter first",
		"pod list web":                       "weft pod list takes no arguments, but got \"web\"; see `weft pod list --help`",
		"pod exec web":                       "weft pod exec takes a pod and a command, for instance `weft pod exec web -- ip addr`",
		"pod exec web --":                    "weft pod exec takes a pod and a command, for instance `weft pod exec web -- ip addr`",
		"pod exec 1 -- true":                 "\"1\" is no name for a pod: up to 40 small letters, digits and dashes, a letter first",
		"ipam show":                          "unknown command \"ipam show\"; see `weft ipam --help`",
		"ipam list 10.244.1.7":               "weft ipam list takes no arguments, but got \"10.244.1.7\"; see `weft ipam list --help`",
		"ipam gc all":                        "weft ipam gc takes no arguments, but got \"all\"; see `weft ipam gc --help`",
		"ipam release":                       "weft ipam release takes one address, or CONTAINER:INTERFACE; `weft ipam list` shows them",
		"id node1":                           "weft id takes no arguments, but got \"node1\"; see `weft id --help`",
		"id --state-dir=":                    "--state-dir needs the name of a folder, for instance /var/lib/weft",
		"ca sing":                            "weft ca has no command \"sing\"; there are `weft ca init` and `weft ca sign`",
		"ca init here":                       "weft ca init takes no arguments, but got \"here\"; see `weft ca init --help`",
		"ca init --dir=":                     "--dir needs the name of a folder",
		"ca sign":                            "--node needs the ID of the node; `weft id` prints it there",
		"ca sign --node a --ca=":             "--ca needs the name of the file ca.key that `weft ca init` made",
		"ca sign --node a --out=":            "--out needs the name of a file, for instance node.cert",
		"ca sign --node a --cidr=":           "--cidr is empty; leave it out to allow any block",
		"ca sign --node a --cidr 10.244.1.0": "--cidr: \"10.244.1.0\" has no prefix length; write for instance 10.244.1.0/24",
		"ca sign --node a --cidr 10.244.1.1/24,fd00::/64": "--cidr: 10.244.1.1/24 has bits set after the prefix; write 10.244.1.0/24",
		"ca sign --nod a":        "unknown flag: --nod; did you mean --node?",
		"keygen gossip.key":      "weft keygen takes no arguments, but got \"gossip.key\"; see `weft keygen --help`",
		"keygen --out=":          "--out needs the name of a file, for instance /etc/weft/gossip.key",
		"ping":                   "weft ping takes one node, but got 0; for instance `weft ping node2`",
		"ping a b":               "weft ping takes one node, but got 2; for instance `weft ping node2`",
		"ping a -c -1":           "invalid argument \"-1\" for \"-c, --count\" flag: strconv.ParseUint: parsing \"-1\": invalid syntax",
		"ping a -i 5ms":          "--interval is 5ms, and must be at least 100ms: a node answers no faster",
		"ping a --intervall 1s":  "unknown flag: --intervall; did you mean --interval?",
		"metrics node1":          "weft metrics takes no arguments, but got \"node1\"; see `weft metrics --help`",
		"metrics --json":         "metrics are in Prometheus' text format; for JSON see `weft status`, `weft peers` and `weft drops`",
		"doctor node1":           "weft doctor takes no arguments, but got \"node1\"; see `weft doctor --help`",
		"status --watch=perhaps": "invalid argument \"perhaps\" for \"-w, --watch\" flag: strconv.ParseBool: parsing \"perhaps\": invalid syntax",
	} {
		got := run(t, "/nowhere", strings.Fields(args)...)
		if got != (result{2, "", "weft: " + want + "\n"}) {
			t.Errorf("weft %s: got %+v\nwant %s", args, got, want)
		}
	}
}

func TestHelp(t *testing.T) {
	plain := run(t, "/nowhere")
	if plain.status != 0 || !strings.Contains(plain.out, "Available Commands:") || plain.errOut != "" {
		t.Errorf("weft alone: %+v", plain)
	}
	for _, name := range []string{"status", "peers", "routes", "segments", "drops", "ping", "doctor", "metrics", "leave", "uninstall", "forget", "pod", "ipam", "keygen", "id", "ca", "version"} {
		if !strings.Contains(plain.out, "\n  "+name) {
			t.Errorf("%s is not in the help", name)
		}
		help := run(t, "/nowhere", "help", name)
		if help != run(t, "/nowhere", name, "--help") || help.status != 0 {
			t.Errorf("two helps for %s", name)
		}
		if !strings.Contains(help.out, "Examples:\n") {
			t.Errorf("%s has no examples:\n%s", name, help.out)
		}
		for line := range strings.Lines(help.out) {
			if len(line) > 110 || strings.Contains(line, "\t") {
				t.Errorf("%s: line %q", name, line)
			}
		}
	}
	if got := run(t, "/nowhere", "completion", "bash"); got.status != 0 || !strings.Contains(got.out, "__weft_") {
		t.Errorf("no completion for bash: %d %s", got.status, got.errOut)
	}
}

func TestDaemonDown(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	want := "weft: weftd is not running (nothing listens on " + socket + "); start it with `systemctl start weftd` or `weftd --config /etc/weft/weft.yaml`\n"
	for _, args := range []string{"status", "peers --json", "routes", "segments", "segments office --json", "drops --watch", "leave", "forget node4", "ping node2", "ping node2 --json", "status --watch --json"} {
		if got := run(t, socket, strings.Fields(args)...); got != (result{1, "", want}) {
			t.Errorf("weft %s: got %+v", args, got)
		}
	}
	if got := run(t, "/elsewhere", "status", "--socket", socket); got != (result{1, "", want}) {
		t.Errorf("--socket: got %+v", got)
	}
}

// TestPermission asks as a user who may not.
func TestPermission(t *testing.T) {
	dir, err := os.MkdirTemp("", "weft") // t.TempDir is closed to others, so that they would not see the socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	l, err := control.Listen(filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	socket := l.Addr().String()

	var got result
	group := "root"
	if os.Geteuid() == 0 {
		var out, errOut bytes.Buffer
		cmd := exec.Command("/proc/self/exe", asNobody, "status", "--socket", socket)
		cmd.Stdout, cmd.Stderr = &out, &errOut
		var exit *exec.ExitError
		if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		got = result{cmd.ProcessState.ExitCode(), out.String(), errOut.String()}
	} else {
		if err := os.Chmod(socket, 0); err != nil {
			t.Fatal(err)
		}
		got = run(t, socket, "status")
		_, group, _ = strings.Cut(strings.TrimSuffix(got.errOut, ")\n"), "group (") // whatever the user's is
	}
	want := result{1, "", "weft: permission denied on " + socket + "; use sudo, or join the socket's group (" + group + ")\n"}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestGarbageAnswer(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := l.Accept()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		conn.Read(make([]byte, 4096))
		conn.Write([]byte("\x1b[2Jgarbage\r\n"))
	}()
	defer func() { l.Close(); <-done }()
	got := run(t, l.Addr().String(), "status")
	if got.status != 1 || got.out != "" || !strings.HasPrefix(got.errOut, "weft: no weftd answers on "+l.Addr().String()) ||
		strings.Count(got.errOut, "\n") != 1 || strings.Contains(got.errOut, "\x1b") {
		t.Errorf("got %+v", got)
	}
}

func TestLeave(t *testing.T) {
	b := &backend{}
	socket, _ := daemon(t, b)
	want := `node1 has left the pod network: 1 peer told to withdraw the routes to 10.244.1.0/24, fd00:10:244:1::/64.
weftd ends with that, and pods of other nodes no longer reach the pods of this node.
To bring it back: systemctl start weftd
`
	if got := run(t, socket, "leave"); got != (result{0, want, ""}) || b.left.Load() != 1 {
		t.Errorf("got %+v, left %d times", got, b.left.Load())
	}
	want = `{
  "node": {
    "id": "` + sampleStatus().Node.ID + `",
    "name": "node1"
  },
  "podCIDRs": [
    "10.244.1.0/24",
    "fd00:10:244:1::/64"
  ],
  "peersTold": 2
}
`
	if got := run(t, socket, "leave", "--json"); got != (result{0, want, ""}) {
		t.Errorf("got %+v", got)
	}
	b.leaveErr = errors.New("no peer confirmed it\x1b[2J")
	if got := run(t, socket, "leave"); got != (result{1, "", "weft: weftd: no peer confirmed it\ufffd[2J\n"}) {
		t.Errorf("got %+v", got)
	}
}

func TestKeygen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "etc", "gossip.key")
	printed := run(t, "", "keygen")
	if printed.status != 0 || len(printed.out) != 45 {
		t.Errorf("got %+v", printed)
	}
	want := "Wrote a new gossip key to " + path + ". Copy this file to every other node, with mode 0600.\n"
	if got := run(t, "", "keygen", "--out", path); got != (result{0, want, ""}) {
		t.Errorf("got %+v", got)
	}
	key, err := config.LoadKey(path)
	if err != nil || len(key) != 32 {
		t.Errorf("the key is %d bytes, %v", len(key), err)
	}
	want = "weft: write gossip key: open " + path + ": file exists; all nodes need the same key, so it is kept: remove it first if no node uses it\n"
	if got := run(t, "", "keygen", "--out", path); got != (result{1, "", want}) {
		t.Errorf("got %+v", got)
	}
}

func TestVersion(t *testing.T) {
	got := run(t, "", "version")
	if got.status != 0 || !strings.HasPrefix(got.out, "weft ") || got != run(t, "", "--version") {
		t.Errorf("got %+v", got)
	}
	if got := run(t, "", "version", "--json"); !strings.HasPrefix(got.out, "{\n  \"version\": \"") {
		t.Errorf("got %+v", got)
	}
}
