package main

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// TestCompletion has each shell that is here read what it gets.
func TestCompletion(t *testing.T) {
	for shell, part := range map[string]string{"bash": "__start_weft", "zsh": "#compdef weft", "fish": "complete -c weft"} {
		got := run(t, "/nowhere", "completion", shell)
		if got.status != 0 || !strings.Contains(got.out, part) {
			t.Errorf("%s: %d %s", shell, got.status, got.errOut)
		}
		if path, err := exec.LookPath(shell); err == nil {
			cmd := exec.CommandContext(t.Context(), path, "-n")
			cmd.Stdin = strings.NewReader(got.out)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%s -n: %v\n%s", shell, err, out)
			}
		}
	}
	for args, want := range map[string]string{
		"completion":            "weft completion takes one shell: bash, fish, zsh",
		"completion bsah":       "there is no completion for \"bsah\"; did you mean bash?",
		"completion powershell": "there is no completion for \"powershell\"; there is one for bash, fish, zsh",
	} {
		if got := run(t, "/nowhere", strings.Fields(args)...); got != (result{2, "", "weft: " + want + "\n"}) {
			t.Errorf("weft %s: got %+v", args, got)
		}
	}
}

// TestNodesAreCompleted asks as the shells' scripts do.
func TestNodesAreCompleted(t *testing.T) {
	socket, _ := daemon(t, &backend{})
	for _, command := range []string{"ping", "bench"} {
		if got := run(t, socket, cobra.ShellCompNoDescRequestCmd, command, "no"); !strings.HasPrefix(got.out, "node4\nnode2\nnode3\n") {
			t.Errorf("weft %s: got %+v", command, got)
		}
		if got := run(t, socket, cobra.ShellCompNoDescRequestCmd, command, "node2", ""); strings.Contains(got.out, "node") {
			t.Errorf("weft %s node2: got %+v", command, got)
		}
	}
	if got := run(t, socket, cobra.ShellCompNoDescRequestCmd, "segments", "o"); !strings.HasPrefix(got.out, "office\nlab\n:4\n") {
		t.Errorf("weft segments: got %+v", got)
	}
	if got := run(t, socket, cobra.ShellCompNoDescRequestCmd, "segments", "lab", ""); !strings.HasPrefix(got.out, ":4\n") {
		t.Errorf("weft segments lab: got %+v", got)
	}
	if got := run(t, "/nowhere", cobra.ShellCompNoDescRequestCmd, "ping", ""); got.status != 0 || !strings.HasPrefix(got.out, ":4\n") {
		t.Errorf("without a daemon: got %+v", got)
	}
}

// TestEveryHelp has each command, however deep, explain itself by an example and in lines that fit.
func TestEveryHelp(t *testing.T) {
	var walk func(cmd *cobra.Command, path []string)
	walk = func(cmd *cobra.Command, path []string) {
		for _, sub := range cmd.Commands() {
			if !sub.IsAvailableCommand() || sub.Name() == "help" {
				continue
			}
			name := append(path[:len(path):len(path)], sub.Name())
			got := run(t, "/nowhere", append(name, "--help")...)
			if got.status != 0 || got.errOut != "" || !strings.Contains(got.out, "Examples:\n") {
				t.Errorf("weft %s --help: %+v", strings.Join(name, " "), got)
			}
			for line := range strings.Lines(got.out) {
				if len(line) > 120 || strings.Contains(line, "\t") {
					t.Errorf("weft %s: line %q", strings.Join(name, " "), line)
				}
			}
			walk(sub, name)
		}
	}
	walk((&cli{}).rootCommand(), nil)
	if got := run(t, "/nowhere", "--help"); !strings.Contains(got.out, "Exit status: 0 ") {
		t.Errorf("the exit status is not explained: %s", got.out)
	}
}
