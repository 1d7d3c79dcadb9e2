//go:build linux

package main

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/agext/levenshtein"

	"github.com/weft-net/weft/bench/report"
)

// A plan is the measurements of a run, in order.
type plan struct {
	rounds    int
	scenarios []scenario
	subjects  []subject
}

// A step is one measurement.
type step struct {
	round    int // from 1
	scenario scenario
	subject  subject
}

// joining estimates what it takes to make a network, let a subject join it, and remove it.
const joining = 1500 * time.Millisecond

func (s step) takes() time.Duration {
	if s.scenario.compute != nil {
		return s.scenario.takes
	}
	return s.scenario.takes + joining
}

func (s step) String() string {
	return fmt.Sprintf("round %d  %s  %s", s.round, s.scenario.name, s.subject.name)
}

// steps puts the subjects of one scenario next to each other and the rounds far apart, so
// that a machine that drifts does so for all of them.
func (p plan) steps() []step {
	var steps []step
	for round := 1; round <= p.rounds; round++ {
		for _, sc := range p.scenarios {
			for _, su := range p.subjectsOf(sc) {
				steps = append(steps, step{round: round, scenario: sc, subject: su})
			}
		}
	}
	return steps
}

func (p plan) subjectsOf(sc scenario) []subject {
	switch {
	case sc.compute != nil:
		return []subject{{name: inProcess, about: "weft's own code, without a network"}}
	case sc.subjects != nil:
		return sc.subjects
	}
	return p.subjects
}

// headings returns the scenarios and subjects for the report.
func (p plan) headings() (scenarios, subjects []report.Heading) {
	for _, sc := range p.scenarios {
		scenarios = append(scenarios, report.Heading{Name: sc.name, About: sc.about, MTU: sc.mtu})
		for _, su := range p.subjectsOf(sc) {
			if h := (report.Heading{Name: su.name, About: su.about}); !slices.Contains(subjects, h) {
				subjects = append(subjects, h)
			}
		}
	}
	return scenarios, subjects
}

// check looks for the programs that the plan needs, all of them before the first measurement.
func (p plan) check(bin string) error {
	tools := []tool{{"ip", "iproute2"}, {"ping", "iputils-ping"}, {"nsenter", "util-linux"}}
	var binaries []string
	for _, sc := range p.scenarios {
		if sc.compute != nil {
			continue
		}
		tools = append(tools, sc.tools...)
		for _, su := range p.subjectsOf(sc) {
			binaries = append(binaries, su.binaries...)
		}
	}
	for _, t := range tools {
		if _, err := exec.LookPath(t.command); err != nil {
			return fmt.Errorf("%s is not installed: apt-get install %s", t.command, t.debianPackage)
		}
	}
	for _, name := range binaries {
		if path := filepath.Join(bin, name); !isProgram(path) {
			return fmt.Errorf("%s is missing: run `make bench`, which builds it, or give its folder by -bin", path)
		}
	}
	return nil
}

func isProgram(path string) bool {
	_, err := exec.LookPath(path)
	return err == nil
}

// choose returns those of all that a comma-separated list names, in the order of all. "all"
// names every one.
func choose[T any](kind, list string, all []T, name func(T) string) ([]T, error) {
	var known []string
	for _, item := range all {
		known = append(known, name(item))
	}
	wanted := strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' })
	if slices.Equal(wanted, []string{"all"}) {
		return all, nil
	}
	for _, w := range wanted {
		if !slices.Contains(known, w) {
			return nil, fmt.Errorf("there is no %s %q; did you mean %q? Known are: %s, or all",
				kind, w, nearest(w, known), strings.Join(known, ", "))
		}
	}
	if len(wanted) == 0 {
		return nil, fmt.Errorf("no %s is named; known are: %s, or all", kind, strings.Join(known, ", "))
	}
	var chosen []T
	for _, item := range all {
		if slices.Contains(wanted, name(item)) {
			chosen = append(chosen, item)
		}
	}
	return chosen, nil
}

func nearest(wanted string, known []string) string {
	return slices.MinFunc(known, func(a, b string) int {
		return levenshtein.Distance(wanted, a, nil) - levenshtein.Distance(wanted, b, nil)
	})
}
