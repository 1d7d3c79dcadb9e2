package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/cmd/internal/control"
	"github.com/weft-net/weft/membership"
	"github.com/weft-net/weft/membership/keyring"
)

// canaries are the secrets of a node, in the forms in which they could come out.
type canaries map[string][]byte

func (c canaries) add(name string, secret []byte) {
	c[name+" as it is"] = secret
	c[name+" in base64"] = []byte(base64.StdEncoding.EncodeToString(secret))
	c[name+" in base64 for URLs"] = []byte(base64.RawURLEncoding.EncodeToString(secret))
	c[name+" in hexadecimal"] = []byte(hex.EncodeToString(secret))
	c[name+" in capitals"] = []byte(strings.ToUpper(hex.EncodeToString(secret)))
}

// nodeWithKeys makes the files of a node in dir, and returns the path of its configuration and all of its secrets.
func nodeWithKeys(t *testing.T, dir string) (config string, all canaries) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	all = make(canaries)
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		must(os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	state := filepath.Join(dir, "state")
	must(os.Mkdir(state, 0o700))
	identity, err := membership.LoadIdentity(state)
	must(err)
	pem, err := os.ReadFile(filepath.Join(state, membership.KeyFile))
	must(err)
	all["the node's key in PEM"] = bytes.Split(pem, []byte("\n"))[1]
	der, err := base64.StdEncoding.DecodeString(string(all["the node's key in PEM"]))
	must(err)
	all.add("the node's seed", der[len(der)-32:])

	gossip := []byte("0123456789abcdefGOSSIPKEY0123456")
	all.add("the gossip key", gossip)
	write("short.key", base64.StdEncoding.EncodeToString([]byte("16 bytes of key!"))+"\n")
	all.add("a short key", []byte("16 bytes of key!"))
	ring, _, err := keyring.Open(state, identity, gossip)
	must(err)
	_, err = ring.Rotate()
	must(err)
	for _, key := range ring.Keys() {
		all.add("a key of the ring", key)
	}
	key := write("gossip.key", base64.StdEncoding.EncodeToString(gossip)+"\n")
	return write("weft.yaml", fmt.Sprintf("# the old password: hunter2hunter2\nnodeName: node1 # hunter2hunter2\ngossipKeyFile: %s\nstateDir: %s\n", key, state)), all
}

// TestBundleHasNoKeys has every source of the bundle tell every secret, and finds none in it.
func TestBundleHasNoKeys(t *testing.T) {
	dir := t.TempDir()
	config, all := nodeWithKeys(t, dir)
	// What nobody told weft of.
	strangers := canaries{
		"WireGuard's key":   []byte("yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk="),
		"TCP's cookie key":  []byte("00112233-44556677-8899aabb-ccddeeff"),
		"somebody's secret": []byte("correct-horse"),
		"a quoted password": []byte("battery staple"),
		"a private key":     []byte("MC4CAQAwBQYDK2VwBCIEINotAKeyButLooksLikeOne"),
	}
	said := "10.244.1.0/24 dev weft0 proto 119\n" +
		"wg0: private " + string(strangers["WireGuard's key"]) + "\nnet.ipv4.tcp_fastopen_key = " + string(strangers["TCP's cookie key"]) +
		"\nAPI_TOKEN=" + string(strangers["somebody's secret"]) + `` + "\n{\"password\": \"" + string(strangers["a quoted password"]) + "\"}\n" +
		"-----BEGIN PRIVATE KEY-----\n" + string(strangers["a private key"]) + "\n-----END PRIVATE KEY-----\n"
	for name, secret := range all {
		said += fmt.Sprintf("weftd[1]: %s: key=%q and %s;\n", name, secret, secret)
	}
	for name, secret := range strangers {
		all[name] = secret
	}
	all["a password in a comment"] = []byte("hunter2hunter2")
	socket, _ := daemon(t, &backend{doctor: control.Diagnosis{Findings: []control.Finding{{What: said}}}})
	b := &bundle{client: control.NewClient(socket), config: config, now: now, command: func(_ context.Context, name string, _ ...string) ([]byte, error) {
		if name == "nft" {
			return []byte(said), errors.New(said)
		}
		return []byte(said), nil
	}}
	defer b.client.Close()
	b.learn()
	path := filepath.Join(dir, "bundle.tar.gz")
	var out, errOut bytes.Buffer
	c := &cli{out: &out, errOut: &errOut, socket: socket, now: func() time.Time { return now }}
	if err := c.giveBundle(t.Context(), b, path); err != nil {
		t.Fatal(err)
	}
	files := untar(t, path)
	for _, name := range []string{"weft/status.json", "weft/doctor.json", "weft/weft.yaml", "weft/log.txt", "net/nftables.txt", "net/ethtool.txt"} {
		if len(files["bundle/"+name]) == 0 || !strings.Contains(out.String(), "  "+name) {
			t.Errorf("%s is not in the bundle, or not said to be", name)
		}
	}
	files["what is printed"] = out.Bytes()
	for name, content := range files {
		for what, secret := range all {
			if bytes.Contains(content, secret) {
				t.Errorf("%s has %s", name, what)
			}
		}
	}
	if log := string(files["bundle/weft/log.txt"]); !strings.HasPrefix(log, "10.244.1.0/24 dev weft0 proto 119\n") || !strings.Contains(log, "weftd[1]: ") {
		t.Errorf("too much is left out of the log:\n%s", log)
	}
	if config := string(files["bundle/weft/weft.yaml"]); !strings.HasPrefix(config, "nodeName: node1\ngossipKeyFile: "+dir) {
		t.Errorf("the configuration is\n%s", config)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the bundle: %v, %v", info.Mode(), err)
	}
	if err := c.giveBundle(t.Context(), b, path); err == nil || !strings.Contains(err.Error(), "file exists: choose another") {
		t.Errorf("a bundle that is there: %v", err)
	}
}

func untar(t *testing.T, path string) map[string][]byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	zip, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	files := make(map[string][]byte)
	for archive := tar.NewReader(zip); ; {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if files[h.Name], err = io.ReadAll(archive); err != nil {
			t.Fatal(err)
		}
	}
}

// TestBundle gathers from this machine, with and without a daemon.
func TestBundle(t *testing.T) {
	t.Chdir(t.TempDir())
	socket, stop := daemon(t, &backend{})
	got := run(t, socket, "support-bundle", "--json", "--config", "none.yaml")
	var b bundled
	if err := json.Unmarshal([]byte(got.out), &b); err != nil || got.status != 0 || b.Path != "weft-node1-20261120T150405Z.tar.gz" {
		t.Fatalf("got %+v, %v", got, err)
	}
	files := untar(t, b.Path)
	for _, name := range []string{"weft/peers.json", "net/links.txt", "host/memory.txt", "net/sockets.txt"} {
		if len(files[strings.TrimSuffix(b.Path, ".tar.gz")+"/"+name]) == 0 {
			t.Errorf("%s is empty", name)
		}
	}
	stop()
	got = run(t, socket, "support-bundle", "-o", "down.tar.gz", "--config", "none.yaml")
	if got.status != 0 || got.errOut != "" || !strings.Contains(got.out, "weftd is not running") || !strings.HasSuffix(got.out, "Wrote down.tar.gz. Keys are left out; addresses and names are in it: read it before you give it away.\n") {
		t.Errorf("got %+v", got)
	}
	if got := run(t, socket, "support-bundle", "-o", "none/x.tar.gz"); got.status != 1 || !strings.Contains(got.errOut, "choose another file with --out") {
		t.Errorf("got %+v", got)
	}
	if got := run(t, socket, "support-bundle", "--out="); got.status != 2 {
		t.Errorf("got %+v", got)
	}
}

func TestRunTool(t *testing.T) {
	if out, err := runTool(t.Context(), "sh", "-c", "echo out; echo bad >&2; exit 3"); string(out) != "out\n" || err == nil || !strings.Contains(err.Error(), "exit status 3: bad") {
		t.Errorf("got %q, %v", out, err)
	}
	if _, err := runTool(t.Context(), "no-such-tool"); err == nil || err.Error() != "no-such-tool is not installed" {
		t.Errorf("got %v", err)
	}
	out, err := runTool(t.Context(), "head", "-c", fmt.Sprint(maxItem+7), "/dev/zero")
	if len(out) != maxItem || err == nil || err.Error() != "the last 7 bytes are left out" {
		t.Errorf("got %d bytes, %v", len(out), err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	if _, err := runTool(ctx, "sleep", "30"); err == nil || time.Since(began) > 20*time.Second {
		t.Errorf("after %s: %v", time.Since(began), err)
	}
}

// FuzzSecrets has nothing that was learned be left, whatever it stands in.
func FuzzSecrets(f *testing.F) {
	f.Add([]byte("MDEyMzQ1Njc4OWFiY2RlZkdPU1NJUEtFWTAxMjM0NTY=\n"), "a ", " b")
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n-----END PRIVATE KEY-----\n"), "", "")
	f.Add([]byte("0123456789abcdef"), "0123456789abcde", "f")
	f.Fuzz(func(t *testing.T, file []byte, before, after string) {
		var s secrets
		s.learn(file)
		for _, word := range token.FindAll(file, -1) {
			if bytes.HasPrefix(word, []byte("-----")) {
				continue
			}
			said := []byte(before + "\n" + string(word) + "\n" + after)
			if clean := s.remove(said); bytes.Contains(clean, word) && !strings.Contains(before+after, string(word)) {
				t.Errorf("%q is left of %q: %q", word, said, clean)
			}
		}
	})
}
