//go:build linux

// Command soak abuses a pod network of three nodes for an hour and looks for what only time
// shows: leaks, lost connections, packets that nobody accounts for. `make soak` runs it;
// bench/README.md says what it does and what it holds weft to.
//
// It exits with status 1 if anything failed, and leaves nothing behind but the report, also when it is interrupted.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

var errInterrupted = errors.New("interrupted")

func main() {
	p := plan{idle: time.Minute, sample: 10 * time.Second, progress: 30 * time.Second, patience: time.Minute}
	bin := flag.String("bin", "bin", "`folder` with weftd and weft")
	flag.StringVar(&p.out, "out", "bench/out", "`folder` for soak.json and, after a failure, the logs")
	flag.Uint64Var(&p.seed, "seed", 0, "`number` that decides what happens when; 0 draws one")
	minutes := flag.Float64("minutes", 60, "how long to abuse, in `minutes`")
	flag.Parse()
	p.abuse = time.Duration(*minutes * float64(time.Minute))

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	defer stop()
	context.AfterFunc(ctx, stop) // the second Ctrl-C ends it on the spot

	if err := run(ctx, p, *bin); err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		stop()
		os.Exit(1)
	}
}

// A plan is how long each part takes.
type plan struct {
	seed     uint64
	out      string
	idle     time.Duration // no traffic, and nobody asks anything
	abuse    time.Duration
	sample   time.Duration // between two samples
	progress time.Duration // between two lines
	patience time.Duration // for the cluster to be whole again after an abuse
}

// run soaks a cluster. The report is written and shown in any case; a failure in it is an error.
func run(ctx context.Context, p plan, bin string) (err error) {
	b, err := findBinaries(bin)
	if err != nil {
		return err
	}
	if err := clearEnvironment(); err != nil {
		return err
	}
	if p.seed == 0 {
		p.seed = rand.Uint64N(1_000_000) + 1
	}
	c, err := newCluster(b)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.close()) }()

	r := newReport(p)
	fmt.Printf("soak: %s of abuse, 3 nodes, 6 pods; SEED=%d repeats its choices\n", p.abuse, p.seed)
	err = soak(ctx, c, p, r)
	r.Interrupted = ctx.Err() != nil
	if err != nil && !errors.Is(err, context.Canceled) {
		r.fail("%v", err)
	}
	if len(r.failed()) > 0 {
		if err := c.keepLogs(p.out); err != nil {
			return err
		}
	}
	if err := r.write(filepath.Join(p.out, "soak.json")); err != nil {
		return err
	}
	r.print(os.Stdout)
	switch failures := r.failed(); {
	case len(failures) > 0:
		return fmt.Errorf("%d failures, the first: %s", len(failures), failures[0])
	case r.Interrupted:
		return errInterrupted
	}
	return nil
}

// binaries are the programs under abuse, by absolute path.
type binaries struct{ weftd, weft string }

// findBinaries checks that the soak can run at all.
func findBinaries(folder string) (binaries, error) {
	if os.Geteuid() != 0 {
		return binaries{}, errors.New("network namespaces need root: run it with sudo")
	}
	for _, tool := range []struct{ name, debianPackage string }{
		{"ip", "iproute2"}, {"nft", "nftables"}, {"sysctl", "procps"}, {"iperf3", "iperf3"}, {"nsenter", "util-linux"},
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

// clearEnvironment removes the variables with which the user may have configured a weftd of
// their own: they would override the configuration files.
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
