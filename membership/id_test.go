package membership

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestIDText(t *testing.T) {
	id := identity(1).ID
	text := id.String()
	if len(text) != idTextLen || text != strings.ToLower(text) {
		t.Fatalf("text %q", text)
	}
	if got, err := ParseID(text); err != nil || got != id {
		t.Fatalf("parsed %v, %v", got, err)
	}
	for _, bad := range []string{"", text[1:], text + "a", strings.ToUpper(text), text[:51] + "1", text[:51] + "b"} {
		if _, err := ParseID(bad); err == nil {
			t.Errorf("%q parsed", bad)
		}
	}
}

func TestLoadIdentity(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made")
	made, err := LoadIdentity(dir)
	if err != nil {
		t.Fatal(err)
	}
	again, err := LoadIdentity(dir)
	if err != nil || again.ID != made.ID || !again.key.Equal(made.key) {
		t.Fatalf("loaded %s, %v; want %s", again.ID, err, made.ID)
	}
	path := filepath.Join(dir, KeyFile)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, %v", info.Mode(), err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*.tmp")); err != nil || len(left) != 0 {
		t.Fatalf("left behind: %v, %v", left, err)
	}

	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, damaged := range map[string]string{
		"empty":     "",
		"truncated": string(text[:len(text)/2]),
		"garbage":   "not a key\n",
		"two keys":  string(text) + string(text),
		"cut DER":   strings.Replace(string(text), "MC4C", "MC4A", 1),
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(path, []byte(damaged), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := LoadIdentity(dir); err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "backup") {
				t.Fatalf("error %v", err)
			}
			if kept, err := os.ReadFile(path); err != nil || string(kept) != damaged {
				t.Fatalf("the key was touched: %q, %v", kept, err)
			}
		})
	}

	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadIdentity(dir); err == nil || !strings.Contains(err.Error(), "chmod 600 "+path) {
		t.Fatalf("error %v", err)
	}
}

func TestLoadIdentityUnwritable(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadIdentity(filepath.Join(file, "state")); err == nil {
		t.Fatal("made a key below a file")
	}
}

// FuzzIdentity checks that no text makes the parser panic, and that the key it takes is written as one that
// signs for the same ID.
func FuzzIdentity(f *testing.F) {
	text, err := identity(1).MarshalPEM()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		id, err := ParseIdentity(text)
		if err != nil {
			return
		}
		written, err := id.MarshalPEM()
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseIdentity(written)
		signature := again.Sign("fuzz", text)
		if err != nil || again.ID != id.ID || !id.ID.Verify("fuzz", text, signature[:]) {
			t.Errorf("%s is written as %s, %v", id.ID, again.ID, err)
		}
	})
}
