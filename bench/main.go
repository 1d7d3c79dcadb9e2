//go:build linux

// Command bench compares weft with what else joins the pods of two nodes, on one machine and
// in one run. `make bench` runs it.
//
// Every scenario is put to every subject in turn, and that for several rounds: what one run
// says about two subjects can be compared, what two runs say cannot, since machines drift.
// It prints a table of medians and leaves report.json and report.html in its output folder.
// It judges nothing: the exit status is 1 only if something could not be measured.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/term"

	"github.com/weft-net/weft/bench/report"
)

type options struct {
	scenarios, subjects string
	rounds              int
	quick               bool
	bin, out            string
}

func main() {
	// A closed pipe (bench | head) must end the run in order, not on the spot.
	ctx, stop := signal.NotifyContext(context.Background(),
		syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends it on the spot

	if err := dispatch(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func dispatch(ctx context.Context, args []string) error {
	if len(args) > 0 && args[0] == nodeMode {
		c, err := parseNode(args[1:])
		if err != nil {
			return err
		}
		return runNode(ctx, c)
	}
	var o options
	flag.StringVar(&o.scenarios, "scenarios", "", "comma-separated `names`, or all (default "+strings.Join(defaultScenarios, ",")+")")
	flag.StringVar(&o.subjects, "subjects", "", "comma-separated `names`, or all (default all, or those that differ most with -quick)")
	flag.IntVar(&o.rounds, "rounds", 0, "how `often` each measurement is repeated (default 5, or 1 with -quick)")
	flag.BoolVar(&o.quick, "quick", false, "short measurements of "+strings.Join(quickScenarios, ",")+": a check of the harness, not of weft")
	flag.StringVar(&o.bin, "bin", "bin", "`folder` with weftd, weft and wireguard")
	flag.StringVar(&o.out, "out", filepath.Join("bench", "out"), "`folder` for report.json and report.html")
	list := flag.Bool("list", false, "list scenarios and subjects, and do nothing else")
	flag.Parse()
	switch {
	case flag.NArg() > 0:
		return fmt.Errorf("unexpected argument %q", flag.Arg(0))
	case *list:
		listAll()
		return nil
	}
	return run(ctx, o)
}

func run(ctx context.Context, o options) error {
	p, err := newPlan(o)
	if err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return errors.New("network namespaces need root: run it with sudo")
	}
	bin, err := filepath.Abs(o.bin)
	if err != nil {
		return err
	}
	if err := p.check(bin); err != nil {
		return err
	}
	if err := os.MkdirAll(o.out, 0o755); err != nil {
		return fmt.Errorf("make the folder of the reports: %w", err)
	}
	r := newRunner(ctx, p, bin, o.out)
	if warning := busy(r.report.Env); warning != "" {
		fmt.Println(warning)
	}
	if err := r.run(ctx); err != nil {
		return err
	}
	if err := r.report.WriteTable(os.Stdout, wantsColour()); err != nil {
		return fmt.Errorf("print the table: %w", err)
	}
	fmt.Printf("\n%s  %s\n", filepath.Join(o.out, "report.html"), filepath.Join(o.out, "report.json"))
	return outcome(r.report)
}

// newPlan reads the options.
func newPlan(o options) (plan, error) {
	l, names, among, rounds := fullLengths, defaultScenarios, []string{"all"}, 5
	if o.quick {
		l, names, among, rounds = quickLengths, quickScenarios, quickSubjects, 1
	}
	if o.rounds < 0 {
		return plan{}, fmt.Errorf("-rounds %d is negative", o.rounds)
	}
	if o.rounds > 0 {
		rounds = o.rounds
	}
	if o.scenarios == "" {
		o.scenarios = strings.Join(names, ",")
	}
	if o.subjects == "" {
		o.subjects = strings.Join(among, ",")
	}
	chosen, err := choose("scenario", o.scenarios, scenarios(l), func(s scenario) string { return s.name })
	if err != nil {
		return plan{}, err
	}
	compared, err := choose("subject", o.subjects, subjects(), func(s subject) string { return s.name })
	if err != nil {
		return plan{}, err
	}
	return plan{rounds: rounds, scenarios: chosen, subjects: compared}, nil
}

func newRunner(ctx context.Context, p plan, bin, out string) *runner {
	r := &report.Report{Env: describe(ctx, p, bin, time.Now()), Rounds: p.rounds}
	r.Scenarios, r.Subjects = p.headings()
	return &runner{
		plan: p, bin: bin, out: out, report: r,
		shown: &progress{out: os.Stdout, terminal: isTerminal(), now: time.Now},
	}
}

// outcome is not about how fast anything is.
func outcome(r *report.Report) error {
	switch failed := len(r.Failures); {
	case r.Interrupted:
		return errors.New("interrupted")
	case failed == 1:
		return errors.New("1 measurement failed")
	case failed > 1:
		return fmt.Errorf("%d measurements failed", failed)
	}
	return nil
}

func listAll() {
	fmt.Println("scenarios:")
	for _, s := range scenarios(fullLengths) {
		fmt.Printf("  %-16s  %s\n", s.name, s.about)
	}
	fmt.Println("subjects:")
	for _, s := range subjects() {
		fmt.Printf("  %-16s  %s\n", s.name, s.about)
	}
}

func isTerminal() bool { return term.IsTerminal(int(os.Stdout.Fd())) }

// wantsColour follows https://no-color.org: any value but the empty one says no.
func wantsColour() bool { return isTerminal() && os.Getenv("NO_COLOR") == "" }
