package authority

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/weft-net/weft/membership"
)

// made returns the paths of a fresh authority's files, and its ID.
func made(t *testing.T) (key, public string, id membership.ID) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "weft", "ca")
	id, err := Make(dir)
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, KeyName), filepath.Join(dir, PublicName), id
}

func write(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// explained fails unless err is one line that has all of want.
func explained(t *testing.T, name string, err error, want ...string) {
	t.Helper()
	if err == nil || strings.ContainsAny(err.Error(), "\n\r") {
		t.Errorf("%s: error %v, want one line with %q", name, err, want)
		return
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%s: error %q, want %q in it", name, err, w)
		}
	}
}

func TestMake(t *testing.T) {
	key, public, id := made(t)
	for path, want := range map[string]fs.FileMode{key: 0o600, public: 0o644} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: mode %v, %v; want %v", path, info.Mode(), err, want)
		}
	}
	if loaded, err := LoadKey(key); err != nil || loaded.ID != id {
		t.Errorf("the key is %s's, %v; want %s's", loaded.ID, err, id)
	}
	if loaded, err := LoadPublic(public); err != nil || loaded != id {
		t.Errorf("the public half is %s's, %v; want %s's", loaded, err, id)
	}
	if strings.Contains(read(t, public), "PRIVATE") {
		t.Error("the public half is not public")
	}
}

// TestMakeKeeps has one of the two files there: neither is touched, and no half of another appears.
func TestMakeKeeps(t *testing.T) {
	for _, there := range []string{KeyName, PublicName} {
		dir := t.TempDir()
		path := write(t, filepath.Join(dir, there), "precious")
		_, err := Make(dir)
		if !errors.Is(err, fs.ErrExist) {
			t.Errorf("%s exists: error %v", there, err)
		}
		explained(t, there, err, path, "it is kept")
		entries, _ := os.ReadDir(dir)
		if len(entries) != 1 || read(t, path) != "precious" {
			t.Errorf("%s existed, and then there is %v, %q", there, entries, read(t, path))
		}
	}
}

func TestLoadKey(t *testing.T) {
	key, public, _ := made(t)
	dir := t.TempDir()
	_, err := LoadKey(filepath.Join(dir, "absent"))
	explained(t, "absent", err, "absent: no such file", "weft ca init")
	_, err = LoadKey(public)
	explained(t, "public half", err, "mode is 0644", "chmod 600 "+public)
	_, err = LoadKey(write(t, filepath.Join(dir, "pub"), read(t, public)))
	explained(t, "public half", err, "not one PEM block of a private key", "is it the file ca.key")
	_, err = LoadKey(write(t, filepath.Join(dir, "cut"), read(t, key)[:80]))
	explained(t, "cut", err, "not one PEM block of a private key")
	_, err = LoadKey(dir)
	explained(t, "folder", err, "not a regular file")
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = LoadKey(fifo)
	explained(t, "FIFO", err, "not a regular file")
}

func TestLoadPublic(t *testing.T) {
	key, public, _ := made(t)
	text := read(t, public)
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&other.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "ca.pub")
	_, err = LoadPublic(path)
	explained(t, "absent", err, path+": no such file; copy ca.pub there")
	for name, test := range map[string]struct{ text, want string }{
		"empty":      {"", "not one PEM block"},
		"secret":     {read(t, key), `holds a "PRIVATE KEY" instead of a public key`},
		"two":        {text + text, "not one PEM block"},
		"no PEM":     {"ca", "not one PEM block"},
		"cut DER":    {strings.Replace(text, "MC", "MA", 1), "not a public key"},
		"other kind": {string(pem.EncodeToMemory(&pem.Block{Type: publicPEMType, Bytes: der})), "not an ed25519 key"},
		"large":      {strings.Repeat("a", maxFile+1), "larger than"},
	} {
		_, err := LoadPublic(write(t, path, test.text))
		explained(t, name, err, path, test.want)
	}
}

func TestNodeID(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	id, made, err := NodeID(dir)
	if err != nil || !made || id == (membership.ID{}) {
		t.Fatalf("%s, %t, %v", id, made, err)
	}
	again, made, err := NodeID(dir)
	if err != nil || made || again != id {
		t.Errorf("%s, %t, %v; want %s", again, made, err, id)
	}
	write(t, filepath.Join(dir, membership.KeyFile), "x")
	if _, made, err = NodeID(dir); err == nil || made {
		t.Errorf("of a damaged key: %t, %v", made, err)
	}
}

// FuzzPublic checks that no file makes the parser panic, and that what it takes is written as it was.
func FuzzPublic(f *testing.F) {
	id, err := membership.NewIdentity()
	if err != nil {
		f.Fatal(err)
	}
	text, err := marshalPublic(id.ID)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte("-----BEGIN PUBLIC\nKEY-----\nAA==\n-----END PUBLIC\nKEY-----\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		id, err := parsePublic(text)
		if err != nil {
			if strings.ContainsAny(err.Error(), "\n\r") {
				t.Errorf("error of several lines: %q", err)
			}
			return
		}
		written, err := marshalPublic(id)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := parsePublic(written); err != nil || again != id {
			t.Errorf("%s is written as %s, %v", id, again, err)
		}
	})
}
