package authority

import (
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weft-net/weft/membership"
)

// signed returns the path of a certificate with which node may claim inside cidrs.
func signed(t *testing.T, key string, node membership.ID, cidrs ...netip.Prefix) string {
	t.Helper()
	authority, err := LoadKey(key)
	if err != nil {
		t.Fatal(err)
	}
	f, err := Sign(authority, node.String(), cidrs)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "node.cert")
	if err := f.Write(path); err != nil {
		t.Fatal(err)
	}
	return path
}

func node(t *testing.T) membership.ID {
	t.Helper()
	n, err := membership.NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	return n.ID
}

func TestCert(t *testing.T) {
	key, _, ca := made(t)
	n := node(t)
	blocks := []netip.Prefix{netip.MustParsePrefix("10.244.0.0/20"), netip.MustParsePrefix("fd00:10:244::/56")}
	for _, cidrs := range [][]netip.Prefix{nil, blocks[:1], blocks} {
		path := signed(t, key, n, cidrs...)
		c, err := LoadCert(path, ca, n)
		if err != nil || len(c.CIDRs) != len(cidrs) || c.Verify(ca, n) != nil {
			t.Errorf("%v: %+v, %v", cidrs, c, err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o644 {
			t.Errorf("mode %v, %v", info.Mode(), err)
		}
		for _, want := range append([]string{n.String(), ca.String(), "signature"}, texts(cidrs)...) {
			if !strings.Contains(read(t, path), want) {
				t.Errorf("%q is not in\n%s", want, read(t, path))
			}
		}
	}
}

func texts(prefixes []netip.Prefix) (all []string) {
	for _, p := range prefixes {
		all = append(all, p.String())
	}
	return all
}

func TestSignRefuses(t *testing.T) {
	key, _, _ := made(t)
	authority, err := LoadKey(key)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Sign(authority, "node2", nil)
	explained(t, "a name", err, "node ID of 5 characters", "`weft id` prints it")
	_, err = Sign(authority, node(t).String(), []netip.Prefix{netip.MustParsePrefix("10.244.1.1/24")})
	explained(t, "host bits", err, "10.244.1.0/24")

	path := signed(t, key, node(t))
	before := read(t, path)
	f, err := Sign(authority, node(t).String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	err = f.Write(path)
	explained(t, "a file that exists", err, path, "it is kept")
	if !errors.Is(err, fs.ErrExist) || read(t, path) != before {
		t.Errorf("%v, and the file was touched: %t", err, read(t, path) != before)
	}
}

func TestLoadCertRefuses(t *testing.T) {
	key, _, ca := made(t)
	_, _, otherCA := made(t)
	n, other := node(t), node(t)
	path := signed(t, key, n, netip.MustParsePrefix("10.244.0.0/20"))
	good := read(t, path)
	again := "`, and copy it to " + path

	_, err := LoadCert(path, ca, other)
	explained(t, "another node's", err, "is for node "+n.Short()+", and this is node "+other.Short(), "`weft ca sign --node "+other.String()+again)
	_, err = LoadCert(path, otherCA, n)
	explained(t, "another authority's", err, "is of authority "+ca.Short()+", and clusterCA names "+otherCA.Short(), n.String()+again)
	_, err = LoadCert(path+".x", ca, n)
	explained(t, "absent", err, path+".x: no such file", n.String())
	_, err = LoadCert(filepath.Dir(path), ca, n)
	explained(t, "folder", err, "not a regular file")
	for name, test := range map[string]struct{ text, want string }{
		"more blocks":       {strings.Replace(good, "10.244.0.0/20", "10.244.0.0/16", 1), "was changed after it was signed"},
		"all blocks":        {strings.Replace(good, `"10.244.0.0/20"`, "", 1), "was changed after it was signed"},
		"its node changed":  {strings.Replace(good, n.String(), other.String(), 1), "is for node"},
		"its authority":     {strings.Replace(good, ca.String(), otherCA.String(), 1), "is of authority"},
		"cut":               {good[:len(good)/2], "is damaged (unexpected EOF)"},
		"empty":             {"", "is damaged (EOF)"},
		"two":               {good + good, "is damaged (more than one certificate)"},
		"misspelt":          {strings.Replace(good, "cidrs", "cidr", 1), `is damaged (json: unknown field "cidr")`},
		"no signature":      {"{}", "is damaged (no signature)"},
		"nothing":           {"null", "is damaged (no signature)"},
		"no base64":         {strings.Replace(good, `"signature": "`, `"signature": "!`, 1), "is damaged (illegal base64"},
		"short signature":   {`{"node":"` + n.String() + `","authority":"` + ca.String() + `","signature":"AAAA"}`, "was changed"},
		"the authority key": {read(t, key), "is damaged"},
	} {
		_, err := LoadCert(write(t, path, test.text), ca, n)
		explained(t, name, err, path, test.want, again)
	}
}

// FuzzCert checks that no file makes the parser panic, that its error is one line, and that what it takes is
// somebody's word only if it was signed.
func FuzzCert(f *testing.F) {
	authority, err := membership.NewIdentity()
	if err != nil {
		f.Fatal(err)
	}
	n, err := membership.NewIdentity()
	if err != nil {
		f.Fatal(err)
	}
	good, err := Sign(authority, n.ID.String(), []netip.Prefix{netip.MustParsePrefix("10.244.0.0/20")})
	if err != nil {
		f.Fatal(err)
	}
	path := filepath.Join(f.TempDir(), "node.cert")
	if err := good.Write(path); err != nil {
		f.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(`{"node":"x","signature":""}`))
	f.Add([]byte("{\"cidrs\":[\"::/200\",\"\"],\n\"a\nb\":1}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := parseCert(text)
		switch {
		case err != nil && strings.ContainsAny(err.Error(), "\n\r"):
			t.Errorf("error of several lines: %q", err)
		case err == nil && got.Verify(authority.ID, n.ID) == nil && !got.same(good):
			t.Errorf("%+v was never signed", got)
		}
	})
}

// same compares what is signed.
func (f CertFile) same(o CertFile) bool {
	return string(f.Signature) == string(o.Signature) && strings.Join(texts(f.CIDRs), ",") == strings.Join(texts(o.CIDRs), ",")
}
