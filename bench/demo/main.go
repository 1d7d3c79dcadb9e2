//go:build linux

// Command demo shows weft at work on one machine: three nodes as network namespaces on one
// underlay bridge, two pods each, and a real weftd on every node, which is given the address
// of one seed and nothing else. `make demo` runs it.
//
// It exits with status 1 if anything it shows did not work, and leaves nothing behind, also
// when it is interrupted; -keep leaves everything running until -down.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/weft-net/weft/bench/topo"
)

// limit bounds the demo, which takes about 13 s.
const limit = 60 * time.Second

var (
	errLimit       = fmt.Errorf("the demo has not finished within %s", limit)
	errInterrupted = errors.New("interrupted")
)

func main() {
	bin := flag.String("bin", "bin", "`folder` with weftd and weft")
	keep := flag.Bool("keep", false, "leave everything running at the end")
	down := flag.Bool("down", false, "take down what -keep left running, and do nothing else")
	flag.Parse()

	// A closed pipe (demo | head) must end the demo in order, not on the spot.
	ctx, stop := signal.NotifyContext(context.Background(),
		syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	defer stop()

	var err error
	switch {
	case flag.NArg() > 0:
		err = fmt.Errorf("unexpected argument %q", flag.Arg(0))
	case *down:
		err = takeDown()
	default:
		err = run(ctx, *bin, *keep)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// run builds the cluster and tells the story. The named result lets the deferred Close report.
func run(ctx context.Context, bin string, keep bool) (err error) {
	binaries, err := findBinaries(bin)
	if err != nil {
		return err
	}
	if err := clearEnvironment(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, errLimit)
	defer cancel()

	c, err := newCluster(binaries, keep)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	interrupted := func() bool { return ctx.Err() != nil && !errors.Is(context.Cause(ctx), errLimit) }
	if err := c.build(ctx); interrupted() {
		return errInterrupted
	} else if err != nil {
		return err
	}

	s := newScreen(os.Stdout, wantsColour())
	s.printf("weft on %d nodes with %d pods each: pod network %s, underlay 198.51.100.0/24\n\n",
		len(c.members), podsPerNode, podNetwork)
	storyErr := tell(ctx, s, c)
	if interrupted() {
		return errInterrupted
	}
	if storyErr != nil {
		c.printLogs(s)
	}
	if keep {
		if err := c.topology.Keep(); err != nil {
			return errors.Join(storyErr, err)
		}
		c.printLookAround(s)
	}
	return storyErr
}

func takeDown() error {
	if err := checkRoot(); err != nil {
		return err
	}
	n, err := topo.RemoveKept(topologyPrefix)
	if err != nil {
		return err
	}
	if n == 0 {
		fmt.Println("No demo is running.")
		return nil
	}
	fmt.Printf("Took %d down: processes, namespaces and files are gone.\n", n)
	return nil
}

// binaries are the programs shown, by absolute path.
type binaries struct{ weftd, weft string }

// findBinaries checks that the demo can run at all.
func findBinaries(folder string) (binaries, error) {
	if err := checkRoot(); err != nil {
		return binaries{}, err
	}
	for _, tool := range []struct{ name, debianPackage string }{
		{"ip", "iproute2"}, {"ping", "iputils-ping"}, {"iperf3", "iperf3"}, {"nsenter", "util-linux"},
	} {
		if _, err := exec.LookPath(tool.name); err != nil {
			return binaries{}, fmt.Errorf("%s is not installed: apt-get install %s", tool.name, tool.debianPackage)
		}
	}
	folder, err := filepath.Abs(folder)
	if err != nil {
		return binaries{}, err
	}
	b := binaries{weftd: filepath.Join(folder, "weftd"), weft: filepath.Join(folder, "weft")}
	for _, path := range []string{b.weftd, b.weft} {
		if _, err := exec.LookPath(path); err != nil {
			return binaries{}, fmt.Errorf("%s is missing: run `make build`", path)
		}
	}
	return b, nil
}

func checkRoot() error {
	if os.Geteuid() != 0 {
		return errors.New("network namespaces need root: run it with sudo")
	}
	return nil
}

// wantsColour follows https://no-color.org: any value but the empty one says no.
func wantsColour() bool { return os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" }

// clearEnvironment removes the variables with which the user may have configured a weftd of
// their own: they would override the demo's configuration files.
func clearEnvironment() error {
	for _, variable := range os.Environ() {
		name, _, _ := strings.Cut(variable, "=")
		if !strings.HasPrefix(name, "WEFT_") {
			continue
		}
		if err := os.Unsetenv(name); err != nil {
			return fmt.Errorf("unset %s: %w", name, err)
		}
	}
	return nil
}
