package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weft-net/weft/cmd/internal/authority"
)

func TestID(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	first := run(t, "", "id", "--state-dir", dir)
	if first.status != 0 || len(first.out) != 53 || first.errOut != "Made the key of this node in "+dir+"; it is to stay on this machine.\n" {
		t.Errorf("got %+v", first)
	}
	if again := run(t, "", "id", "--state-dir", dir); again != (result{0, first.out, ""}) {
		t.Errorf("got %+v, want %+v", again, first)
	}
	want := "{\n  \"id\": \"" + strings.TrimSpace(first.out) + "\"\n}\n"
	if got := run(t, "", "id", "--state-dir", dir, "--json"); got != (result{0, want, ""}) {
		t.Errorf("got %+v", got)
	}
}

func TestCAInit(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	key, public := filepath.Join(dir, "ca.key"), filepath.Join(dir, "ca.pub")
	got := run(t, "", "ca", "init", "--dir", dir)
	id, err := authority.LoadPublic(public)
	if err != nil {
		t.Fatal(err)
	}
	want := "Made the authority " + id.Short() + `.
  ` + key + `  signs certificates: keep it secret and off the nodes, and keep a copy
  ` + public + `  copy it to every node as /etc/weft/ca.pub, and set there: clusterCA: /etc/weft/ca.pub
Next, for each node: weft ca sign --ca ` + key + ` --node ID --out node.cert, with the ID that ` + "`sudo weft id`" + ` prints there.
`
	if got != (result{0, want, ""}) {
		t.Errorf("got %+v, want %s", got, want)
	}
	want = "weft: write the authority's public half: open " + public + ": file exists; it is kept: name another, or remove it first\n"
	if got := run(t, "", "ca", "init", "--dir", dir); got != (result{1, "", want}) {
		t.Errorf("again: got %+v", got)
	}
	got = run(t, "", "ca", "init", "--json", "--dir", filepath.Join(dir, "2"))
	var made map[string]string
	if err := json.Unmarshal([]byte(got.out), &made); err != nil || made["public"] != filepath.Join(dir, "2", "ca.pub") || made["key"] == "" || len(made["id"]) != 52 {
		t.Errorf("got %+v, %v", got, err)
	}
}

// TestCASign makes certificates on the way of the README: init, id, sign, copy.
func TestCASign(t *testing.T) {
	dir := t.TempDir()
	if got := run(t, "", "ca", "init", "--dir", dir); got.status != 0 {
		t.Fatalf("%+v", got)
	}
	ca, err := authority.LoadPublic(filepath.Join(dir, "ca.pub"))
	if err != nil {
		t.Fatal(err)
	}
	node, _, err := authority.NodeID(filepath.Join(dir, "node"))
	if err != nil {
		t.Fatal(err)
	}
	sign := func(args ...string) result {
		return run(t, "", append([]string{"ca", "sign", "--ca", filepath.Join(dir, "ca.key"), "--node", node.String()}, args...)...)
	}

	printed := sign("--cidr", "10.244.0.0/20", "--cidr", "fd00:10:244::/56")
	path := filepath.Join(dir, "printed")
	if err := os.WriteFile(path, []byte(printed.out), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := authority.LoadCert(path, ca, node)
	if err != nil || printed.status != 0 || printed.errOut != "" || list(c.CIDRs, " ") != "10.244.0.0/20 fd00:10:244::/56" {
		t.Errorf("%+v is read as %+v, %v", printed, c, err)
	}
	for want, args := range map[string][]string{
		"any block":                   nil,
		"blocks inside 10.244.0.0/20": {"--cidr", "10.244.0.0/20"},
	} {
		path := filepath.Join(dir, strings.ReplaceAll(want, "/", "-"))
		text := "Wrote the certificate of node " + node.Short() + ", for " + want + ", to " + path + ". Copy it to /var/lib/weft/node.cert there.\n"
		if got := sign(append(args, "--out", path)...); got != (result{0, text, ""}) {
			t.Errorf("got %+v, want %s", got, text)
		}
		if c, err := authority.LoadCert(path, ca, node); err != nil || len(c.CIDRs) != len(args)/2 {
			t.Errorf("%s: %+v, %v", want, c, err)
		}
	}
	path = filepath.Join(dir, "json")
	want := "{\n  \"node\": \"" + node.String() + "\",\n  \"path\": \"" + path + "\"\n}\n"
	if got := sign("--json", "--out", path); got != (result{0, want, ""}) {
		t.Errorf("got %+v, want %s", got, want)
	}
	want = "weft: write the certificate of node " + node.Short() + ": open " + path + ": file exists; it is kept: name another, or remove it first\n"
	if got := sign("--out", path); got != (result{1, "", want}) {
		t.Errorf("got %+v, want %s", got, want)
	}
	want = "weft: authority's key /nowhere/ca.key: no such file; name it with --ca, or make one with `weft ca init`\n"
	if got := sign("--ca", "/nowhere/ca.key"); got != (result{1, "", want}) {
		t.Errorf("got %+v, want %s", got, want)
	}
	want = "weft: node ID of 5 characters: want 52; `weft id` prints it on the node\n"
	if got := sign("--node", "node2"); got != (result{1, "", want}) {
		t.Errorf("got %+v, want %s", got, want)
	}
	for _, name := range []string{"init", "sign"} {
		if help := run(t, "", "help", "ca", name); help.status != 0 || !strings.Contains(help.out, "Examples:\n") || help != run(t, "", "ca", name, "--help") {
			t.Errorf("help of %s: %+v", name, help)
		}
	}
}
