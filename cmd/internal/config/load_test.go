package config

import (
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/spf13/pflag"
	"github.com/weft-net/weft/dataplane/offload"
)

// source is where a test takes a configuration from.
type source struct {
	hostname string // "" stands for node1
	yaml     string
	env      []string
	args     []string
}

// load runs a whole Load. In the error the path of the file is replaced by FILE.
func load(t testing.TB, s source) (*Config, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "weft.yaml")
	if err := os.WriteFile(path, []byte(s.yaml), 0o644); err != nil {
		t.Fatal(err)
	}
	if s.hostname == "" {
		s.hostname = "node1"
	}
	cfg, err := loadFrom(t, s.hostname, s.env, append([]string{"--config", path}, s.args...))
	if err != nil {
		return nil, strings.ReplaceAll(err.Error(), path, "FILE")
	}
	return cfg, ""
}

func loadFrom(t testing.TB, hostname string, env, args []string) (*Config, error) {
	t.Helper()
	l := NewLoader(hostname)
	flags := pflag.NewFlagSet("weftd", pflag.ContinueOnError)
	l.BindFlags(flags)
	if err := flags.Parse(args); err != nil {
		t.Fatal(err)
	}
	return l.Load(env)
}

// compare compares configurations apart from where their values came from.
var compare = cmp.Options{
	cmpopts.IgnoreUnexported(Config{}),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
	cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
}

func defaults() *Config {
	return &Config{
		NodeName:      "node1",
		PodNetworks:   []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")},
		AutoCIDR:      true,
		BlockSize4:    24,
		BlockSize6:    64,
		Mode:          "auto",
		Tunnel:        "udp",
		DataPort:      8285,
		VXLANPort:     4789,
		VNI:           1,
		Masquerade:    true,
		Firewall:      "check",
		GossipPort:    7946,
		GossipKeyFile: "/etc/weft/gossip.key",
		CNIWiring:     "routed",
		Tun:           "weft0",
		Offload:       "auto",
		DeadGrace:     5 * time.Second,
		ForgetAfter:   7 * 24 * time.Hour,
		LogLevel:      slog.LevelInfo,
		LogFormat:     "text",
		Socket:        "/run/weft/weft.sock",
		StateDir:      "/var/lib/weft",
	}
}

func TestDefaults(t *testing.T) {
	cfg, problems := load(t, source{})
	if problems != "" {
		t.Fatal(problems)
	}
	if diff := cmp.Diff(defaults(), cfg, compare); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestNames(t *testing.T) {
	want := []string{"podCIDR", "pod-cidr", "WEFT_POD_CIDR"}
	for _, d := range definitions("") {
		if d.name == want[0] && d.flag() == want[1] && d.env() == want[2] {
			return
		}
	}
	t.Errorf("no key %v", want)
}

func TestPrecedence(t *testing.T) {
	s := source{yaml: "podCIDR: 10.244.1.0/24\n"}
	for _, step := range []struct {
		change func()
		tun    string
		source string
	}{
		{func() {}, "weft0", "default"},
		{func() { s.yaml += "\ntun: fromfile\n" }, "fromfile", "FILE:3"},
		{func() { s.env = []string{"PATH=/bin", "WEFT_TUN=fromenv"} }, "fromenv", "WEFT_TUN"},
		{func() { s.args = []string{"--tun", "fromflag"} }, "fromflag", "--tun"},
	} {
		step.change()
		cfg, problems := load(t, s)
		if problems != "" {
			t.Fatal(problems)
		}
		from := cfg.Source("tun")
		if strings.HasSuffix(from, "/weft.yaml:3") {
			from = "FILE:3"
		}
		if cfg.Tun != step.tun || from != step.source {
			t.Errorf("tun is %q from %s; want %q from %s", cfg.Tun, from, step.tun, step.source)
		}
	}
}

func TestListsReplaceEachOther(t *testing.T) {
	cfg, problems := load(t, source{
		yaml: "podCIDR: 10.244.1.0/24\njoin:\n- fromfile\n",
		env:  []string{"WEFT_JOIN=fromenv"},
		args: []string{"--join", "a", "--join", "b:1,c"},
	})
	if problems != "" {
		t.Fatal(problems)
	}
	want := []string{"a:7946", "b:1", "c:7946"}
	if diff := cmp.Diff(want, cfg.JoinAddrs()); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	cfg, problems = load(t, source{yaml: "podCIDR: 10.244.1.0/24\njoin: [fromfile]\n", env: []string{"WEFT_JOIN="}})
	if problems != "" || len(cfg.Join) != 0 {
		t.Errorf("an empty variable left %v (%s)", cfg.Join, problems)
	}
}

func TestInsecureFlagNeedsNoValue(t *testing.T) {
	cfg, problems := load(t, source{args: []string{"--insecure", "--pod-cidr=10.244.1.0/24"}})
	if problems != "" || !cfg.Insecure {
		t.Errorf("insecure: %v, problems %q", cfg, problems)
	}
}

func TestFlagHelp(t *testing.T) {
	flags := pflag.NewFlagSet("weftd", pflag.ContinueOnError)
	NewLoader("node1").BindFlags(flags)
	usage := flags.FlagUsages()
	for _, want := range []string{
		"--config file ", "--gossip-key-file file ", "--insecure ", "--masquerade ", "--data-port port ", "--pod-network CIDR,... ", "--mode auto|direct|udp|vxlan ",
		"(default node1)", "(default 8285)", "'weft keygen' makes one (default /etc/weft/gossip.key)",
	} {
		if !strings.Contains(usage, want) {
			t.Errorf("%q is not in\n%s", want, usage)
		}
	}
}

func TestFlagError(t *testing.T) {
	for args, want := range map[string]string{
		"--pod-cird=x": "unknown flag: --pod-cird; did you mean --pod-cidr?",
		"--podCIDR=x":  "unknown flag: --podCIDR; did you mean --pod-cidr?",
		"--geneve":     "unknown flag: --geneve; --help lists the flags",
		"--tun":        "flag needs an argument: --tun",
	} {
		flags := pflag.NewFlagSet("weftd", pflag.ContinueOnError)
		NewLoader("node1").BindFlags(flags)
		if err := FlagError(flags, flags.Parse([]string{args})); err == nil || err.Error() != want {
			t.Errorf("%s: got %v, want %s", args, err, want)
		}
	}
}

func TestAbsentFile(t *testing.T) {
	absent := filepath.Join(t.TempDir(), "absent.yaml")
	_, err := loadFrom(t, "node1", nil, []string{"--config", absent})
	want := "read configuration " + absent + ": no such file; `weftd config default` prints one to start from"
	if err == nil || err.Error() != want {
		t.Errorf("named explicitly: got %v, want %s", err, want)
	}

	l := NewLoader("node1")
	l.path = absent
	cfg, err := l.Load(nil)
	if err != nil || cmp.Diff(defaults(), cfg, compare) != "" {
		t.Errorf("default path: %+v, %v", cfg, err)
	}
}

func TestFileThatCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	_, err := loadFrom(t, "node1", nil, []string{"--config", dir})
	if want := "read configuration: read " + dir + ": is a directory"; err == nil || err.Error() != want {
		t.Errorf("folder: got %v, want %s", err, want)
	}
	large := filepath.Join(dir, "large")
	if err := os.WriteFile(large, []byte(strings.Repeat("#\n", maxFile/2+1)), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err = loadFrom(t, "node1", nil, []string{"--config", large})
	if err == nil || !strings.Contains(err.Error(), "is larger than 1048576 bytes") {
		t.Errorf("large file: got %v", err)
	}
}

func TestDefaultFile(t *testing.T) {
	text := string(DefaultFile())
	cfg, problems := load(t, source{yaml: text})
	if problems != "" {
		t.Fatal(problems)
	}
	if diff := cmp.Diff(defaults(), cfg, compare); diff != "" {
		t.Errorf("as it is, -want +got\n%s", diff)
	}

	var set strings.Builder
	for line := range strings.Lines(text) {
		if len(line) > 81 {
			t.Errorf("line is too wide: %q", line)
		}
		if key, ok := strings.CutPrefix(line, "#"); ok && key[0] != ' ' {
			set.WriteString(key)
		}
	}
	cfg, problems = load(t, source{yaml: set.String()})
	if problems != "" {
		t.Fatalf("%s\nwith every key set:\n%s", problems, set.String())
	}
	want := defaults()
	want.Underlay.Interface = "eth0"
	want.GossipAddr = netip.MustParseAddr("192.0.2.1")
	want.StaticPeers = []StaticPeer{{Name: "linux1", Address: netip.MustParseAddr("192.0.2.9"), Mode: "direct",
		PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.9.0/24")}}}
	want.Segments = []Segment{{Name: "office", VNI: 100, Bridge: "br0", Flood: 2000}}
	want.StaticPeersFile = "/etc/weft/peers.yaml"
	want.ClusterCA, want.NodeCert = "/etc/weft/ca.pub", "/var/lib/weft/node.cert"
	want.CNIConfDir, want.CNIBinDir = "/etc/cni/net.d", "/opt/cni/bin"
	want.OffloadExcept = offload.Of(offload.USO, offload.RCO)
	want.MetricsAddress, want.Page = "0.0.0.0:8286", "127.0.0.1:8287"
	want.Join = []HostPort{{"node1.example.net", 0}, {"192.0.2.2", 7946}}
	if diff := cmp.Diff(want, cfg, compare); diff != "" {
		t.Errorf("with every key set, -want +got\n%s", diff)
	}
	if len(cfg.origins) != len(definitions("")) {
		t.Errorf("the file sets %d keys of %d", len(cfg.origins), len(definitions("")))
	}
}
