package main

import (
	"regexp"
	"testing"
)

func TestRestartAmong(t *testing.T) {
	for _, c := range []struct {
		jobs, unit string
		want       bool
	}{
		{"", "weftd.service", false},
		{"512 weftd.service restart running\n", "weftd.service", true},
		{"511 ssh.service stop waiting\n512 weftd.service start waiting\n", "weftd.service", true},
		{"512 weftd.service stop running\n", "weftd.service", false},
		{"512 other.service restart running\n", "weftd.service", false},
		{"512 weftd.service.old restart running\n", "weftd.service", false},
		{"weftd.service restart\n", "weftd.service", false},
		{"512 weftd.service", "weftd.service", false},
	} {
		if got := restartAmong([]byte(c.jobs), c.unit); got != c.want {
			t.Errorf("%q, of %s: %v", c.jobs, c.unit, got)
		}
	}
}

func FuzzRestartAmong(f *testing.F) {
	f.Add([]byte("512 weftd.service restart running\n"))
	f.Add([]byte("1 weftd.service stop waiting\n2 weftd.service start waiting"))
	first := regexp.MustCompile(`(?m)^[ \t]*[^\s]+[ \t]+weftd\.service[ \t]+([^\s]+)`)
	plain := regexp.MustCompile(`^[ -~\n]*$`)
	f.Fuzz(func(t *testing.T, jobs []byte) {
		got := restartAmong(jobs, "weftd.service")
		if !plain.Match(jobs) {
			return // there are more kinds of space than the twin knows
		}
		m := first.FindSubmatch(jobs)
		if want := m != nil && (string(m[1]) == "restart" || string(m[1]) == "start"); got != want {
			t.Errorf("%q: %v, want %v", jobs, got, want)
		}
	})
}
