package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// uninstallBy calls a weftd that is the script, and returns what it says.
func uninstallBy(t *testing.T, script string, json bool) (out, errOut string, err error) {
	t.Helper()
	weftd := filepath.Join(t.TempDir(), "weftd")
	if err := os.WriteFile(weftd, []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	var said, failed bytes.Buffer
	c := &cli{out: &said, errOut: &failed, json: json}
	err = c.runWeftd(t.Context(), weftd, []string{"uninstall", "--purge=true"})
	return said.String(), failed.String(), err
}

func TestUninstall(t *testing.T) {
	const work = `echo "called with $@"; echo removed /a b; echo kept /c; echo removed /d; echo put back sysctl a=0`
	for _, test := range []struct {
		name, script string
		json         bool
		err          error
		out, errOut  string
	}{
		{"text", work, false, nil, "called with uninstall --purge=true\nremoved /a b\nkept /c\nremoved /d\nput back sysctl a=0\n", ""},
		{"JSON", work, true, nil, "{\n  \"removed\": [\n    \"/a b\",\n    \"/d\"\n  ],\n  \"putBack\": [\n    \"sysctl a=0\"\n  ]\n}\n", ""},
		{"JSON of nothing", "echo there is nothing to remove", true, nil, "{\n  \"removed\": [],\n  \"putBack\": []\n}\n", ""},
		{"refusal", "echo weftd: no >&2; exit 1", false, errSaid, "", "weftd: no\n"},
		{"refusal in JSON", "echo weftd: no >&2; exit 1", true, errSaid, "{\n  \"removed\": [],\n  \"putBack\": []\n}\n", "weftd: no\n"},
	} {
		out, errOut, err := uninstallBy(t, test.script, test.json)
		if err != test.err || out != test.out || errOut != test.errOut {
			t.Errorf("%s: %v\n%s%s", test.name, err, out, errOut)
		}
	}
}

func TestUninstallArgs(t *testing.T) {
	for args, want := range map[string]string{
		"":                       "uninstall",
		"--purge --config /c":    "uninstall --config=/c --purge=true",
		"--force --socket /s":    "uninstall --force=true --socket=/s",
		"--force=false --purge=": "",
	} {
		c := &cli{socket: "/default"}
		cmd, rest, err := c.rootCommand().Find(append([]string{"uninstall"}, strings.Fields(args)...))
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.ParseFlags(rest); (err != nil) != (want == "") {
			t.Errorf("%s: %v", args, err)
		} else if got := strings.Join(weftdArgs(cmd), " "); want != "" && got != want {
			t.Errorf("%q becomes %q, want %q", args, got, want)
		}
	}
}
