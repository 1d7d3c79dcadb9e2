package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/weft-net/weft/cmd/internal/config"
	"github.com/weft-net/weft/cmd/internal/control"
	"github.com/weft-net/weft/cmd/internal/version"
)

const (
	// toolLimit bounds one program that is asked.
	toolLimit = 10 * time.Second

	// maxItem bounds a file of the bundle: a full routing table of a large machine is smaller.
	maxItem = 4 << 20

	// logLines of weftd are enough for the days in which little happens, and the hour in which much does.
	logLines = "2000"
)

// bundle is what is gathered, and by which means.
type bundle struct {
	client  *control.Client
	config  string // path
	environ []string
	now     time.Time
	command func(ctx context.Context, name string, args ...string) ([]byte, error)
	secrets secrets
}

// item is one file of the bundle. What get returns beside an error is a part of it.
type item struct {
	name string
	get  func(context.Context) ([]byte, error)
}

// learn reads the keys of this node, to know them where they appear.
func (b *bundle) learn() {
	folders := map[string]bool{filepath.Dir(b.config): true, config.DefaultStateDir: true}
	var paths []string
	if c, err := loadConfig(b.config, b.environ); err == nil {
		folders[c.StateDir] = true
		paths = append(paths, c.GossipKeyFile)
	}
	for dir := range folders {
		for _, pattern := range []string{"*.key*", "keyring*"} {
			found, _ := filepath.Glob(filepath.Join(dir, pattern)) // the patterns are right
			paths = append(paths, found...)
		}
	}
	for _, path := range paths {
		if text, err := readSome(path); err == nil {
			b.secrets.learn(text)
		}
	}
}

// readSome reads what is not too long to be a file of keys.
func readSome(path string) ([]byte, error) {
	const maxKeys = 1 << 20
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() || info.Size() > maxKeys {
		return nil, errors.Join(err, errors.New("no file of keys"))
	}
	return os.ReadFile(path)
}

// node is the name that the bundle's file gets.
func (b *bundle) node(ctx context.Context) string {
	name := ""
	if s, err := b.client.Status(ctx); err == nil {
		name = s.Node.Name
	} else if host, err := os.Hostname(); err == nil {
		name = host
	}
	return regexp.MustCompile(`[^A-Za-z0-9._-]`).ReplaceAllString(name, "_")
}

// items are all files, in the order in which somebody would read them.
func (b *bundle) items() []item {
	asked := func(name string, ask func(context.Context) (any, error)) item {
		return item{"weft/" + name + ".json", func(ctx context.Context) ([]byte, error) {
			answer, err := ask(ctx)
			if err != nil {
				return nil, err
			}
			return json.MarshalIndent(answer, "", "  ")
		}}
	}
	tool := func(file, name string, args ...string) item {
		return item{file, func(ctx context.Context) ([]byte, error) { return b.command(ctx, name, args...) }}
	}
	file := func(name, path string) item {
		return item{name, func(context.Context) ([]byte, error) { return readHead(path) }}
	}
	return []item{
		{"weft/version.txt", func(context.Context) ([]byte, error) { return []byte("weft " + version.String() + "\n"), nil }},
		asked("status", func(ctx context.Context) (any, error) { return b.client.Status(ctx) }),
		asked("peers", func(ctx context.Context) (any, error) { return b.client.Peers(ctx) }),
		asked("routes", func(ctx context.Context) (any, error) { return b.client.Routes(ctx) }),
		asked("segments", func(ctx context.Context) (any, error) { return b.client.Segments(ctx) }),
		asked("drops", func(ctx context.Context) (any, error) { return b.client.Drops(ctx) }),
		asked("doctor", func(ctx context.Context) (any, error) { return b.client.Doctor(ctx) }),
		asked("keys", func(ctx context.Context) (any, error) { return b.client.Keys(ctx) }), // their fingerprints
		{"weft/metrics.txt", b.client.Metrics},
		{"weft/weft.yaml", b.configuration},
		tool("weft/service.txt", "systemctl", "show", "weftd", "--property=ActiveState,SubState,Result,NRestarts,ExecMainStatus,ExecMainStartTimestamp,MemoryCurrent,TasksCurrent,UnitFileState,FragmentPath,DropInPaths"),
		tool("weft/log.txt", "journalctl", "--unit=weftd", "--lines="+logLines, "--no-pager", "--output=short-iso-precise"),

		tool("host/kernel.txt", "uname", "-a"),
		file("host/os-release.txt", "/etc/os-release"),
		tool("host/kernel-log.txt", "dmesg", "--level=emerg,alert,crit,err,warn"),
		file("host/memory.txt", "/proc/meminfo"),
		tool("host/services.txt", "systemctl", "list-units", "--type=service", "--state=running", "--no-pager", "--plain"),
		tool("host/sysctls.txt", "sysctl", "-a", "--pattern", "^net[.]"),

		tool("net/links.txt", "ip", "-details", "-statistics", "link"),
		tool("net/addresses.txt", "ip", "address"),
		tool("net/routes4.txt", "ip", "-4", "-details", "route", "show", "table", "all"),
		tool("net/routes6.txt", "ip", "-6", "-details", "route", "show", "table", "all"),
		tool("net/rules4.txt", "ip", "-4", "rule"),
		tool("net/rules6.txt", "ip", "-6", "rule"),
		tool("net/neighbours.txt", "ip", "-statistics", "neighbour"),
		tool("net/fdb.txt", "bridge", "fdb"),
		tool("net/qdiscs.txt", "tc", "-statistics", "qdisc"),
		tool("net/nftables.txt", "nft", "list", "ruleset"),
		tool("net/iptables.txt", "iptables-save", "-c"),
		tool("net/ip6tables.txt", "ip6tables-save", "-c"),
		tool("net/sockets.txt", "ss", "-tuanp"),
		tool("net/socket-sums.txt", "ss", "-s"),
		{"net/ethtool.txt", b.ethtool},
		file("net/softnet.txt", "/proc/net/softnet_stat"),
		file("net/snmp.txt", "/proc/net/snmp"),
		file("net/netstat.txt", "/proc/net/netstat"),

		{"pods/networks.txt", b.networks},
	}
}

// configuration is weftd's file, without its comments, where keys and passwords may have been left.
func (b *bundle) configuration(context.Context) ([]byte, error) {
	text, err := readHead(b.config)
	var out bytes.Buffer
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimRight(yamlComment.ReplaceAllString(strings.TrimRight(line, "\n"), ""), " \t"); line != "" {
			out.WriteString(line + "\n")
		}
	}
	return out.Bytes(), err
}

// yamlComment is a comment in YAML (1.2.2, section 6.6): it begins a line, or a space is before it. What is quoted and has the same
// form goes too.
// Immutable.
var yamlComment = regexp.MustCompile(`(^|\s)#.*`)

// ethtool asks about the underlay alone, which the daemon names: there may be thousands of pods' interfaces.
func (b *bundle) ethtool(ctx context.Context) ([]byte, error) {
	s, err := b.client.Status(ctx)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	for _, args := range [][]string{{"-i"}, {"-k"}, {"-g"}, {"-S"}} {
		args = append(args, s.Underlay.Interface)
		text, err := b.command(ctx, "ethtool", args...)
		fmt.Fprintf(&out, "$ ethtool %s\n%s\n", strings.Join(args, " "), text)
		if err != nil { // a virtual device lacks some
			fmt.Fprintf(&out, "[%s]\n", oneLine(err))
		}
	}
	return out.Bytes(), nil
}

// networks are what container runtimes are told of, and the plugins that they have.
func (b *bundle) networks(context.Context) ([]byte, error) {
	conf, bin := "/etc/cni/net.d", "/opt/cni/bin"
	if c, err := loadConfig(b.config, b.environ); err == nil {
		if c.CNIConfDir != "" {
			conf = c.CNIConfDir
		}
		if c.CNIBinDir != "" {
			bin = c.CNIBinDir
		}
	}
	var out bytes.Buffer
	for _, dir := range []string{conf, bin} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			fmt.Fprintf(&out, "%v\n", err)
		}
		for _, e := range entries {
			path := filepath.Join(dir, e.Name())
			fmt.Fprintln(&out, path)
			if text, err := readHead(path); err == nil && dir == conf && !e.IsDir() {
				fmt.Fprintf(&out, "%s\n\n", text)
			}
		}
	}
	return out.Bytes(), nil
}

func readHead(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	head := newHead()
	_, err = io.Copy(head, f)
	return head.Bytes(), errors.Join(err, head.whole())
}

// runTool runs a program, and returns what it says, its errors after that.
func runTool(ctx context.Context, name string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, toolLimit)
	defer cancel()
	var out, errOut = newHead(), newHead()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdout, cmd.Stderr = out, errOut
	cmd.WaitDelay = time.Second // of what it started, and left behind
	err := cmd.Run()
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return nil, fmt.Errorf("%s is not installed", name)
	case ctx.Err() != nil:
		err = fmt.Errorf("%s took longer than %s", name, toolLimit)
	case err != nil:
		err = fmt.Errorf("%s: %w: %s", name, err, errOut.Bytes()[:min(errOut.Len(), 200)])
	}
	return out.Bytes(), errors.Join(err, out.whole())
}

// head keeps the beginning of what is written to it.
type head struct {
	bytes.Buffer
	lost int
}

func newHead() *head { return new(head) }

// Write never fails, so that who writes goes on.
func (h *head) Write(p []byte) (int, error) {
	keep := p[:min(len(p), maxItem-h.Len())]
	h.lost += len(p) - len(keep)
	h.Buffer.Write(keep)
	return len(p), nil
}

// ReadFrom keeps io.Copy from passing Write by.
func (h *head) ReadFrom(r io.Reader) (int64, error) { return io.Copy(struct{ io.Writer }{h}, r) }

func (h *head) whole() error {
	if h.lost > 0 {
		return fmt.Errorf("the last %d bytes are left out", h.lost)
	}
	return nil
}
