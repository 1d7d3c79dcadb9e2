package config

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

const (
	key16 = "AAECAwQFBgcICQoLDA0ODw=="
	key32 = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
)

func TestLoadKey(t *testing.T) {
	for _, test := range []struct {
		name, text string
		mode       os.FileMode
		size       int
		want       string // part of the error, PATH for the file
	}{
		{"16 bytes", key16 + "\n", 0o600, 16, ""},
		{"32 bytes", key32, 0o400, 32, ""},
		{"carriage return", key32 + "\r\n", 0o600, 32, ""},
		{"group", key32, 0o640, 0, "gossip key PATH: mode is 0640, so that others can read it or worse; run `chmod 600 PATH`"},
		{"others", key32, 0o604, 0, "run `chmod 600 PATH`"},
		{"executable", key32, 0o700, 0, "run `chmod 600 PATH`"},
		{"24 bytes", base64.StdEncoding.EncodeToString(make([]byte, 24)), 0o600, 0, "gossip key PATH: the key has 24 bytes; it must have 16 or 32: `weft keygen` makes a good one"},
		{"empty", "\n", 0o600, 0, "the file is empty"},
		{"text", "secret", 0o600, 0, "not in base64"},
		{"url alphabet", strings.Repeat("_", 42) + "8=", 0o600, 0, "not in base64"},
		{"loose bits", key16[:21] + "x==", 0o600, 0, "not in base64"},
		{"split", key16[:10] + "\r" + key16[10:], 0o600, 0, "not in base64"},
		{"two lines", key16 + "\n" + key16 + "\n", 0o600, 0, "more than one line"},
		{"empty second line", key16 + "\n\n", 0o600, 0, "more than one line"},
		{"large", strings.Repeat("A", maxKeyFile+1), 0o600, 0, "too long"},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "gossip.key")
			if err := os.WriteFile(path, []byte(test.text), test.mode); err != nil {
				t.Fatal(err)
			}
			key, err := LoadKey(path)
			if test.want == "" {
				if err != nil || len(key) != test.size || key[1] != 1 {
					t.Errorf("got %x, %v", key, err)
				}
				return
			}
			want := strings.ReplaceAll(test.want, "PATH", path)
			if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), test.text) && test.text != "\n" {
				t.Errorf("got key %x, error %v; want %s", key, err, want)
			}
		})
	}
}

func TestLoadKeyFromNoFile(t *testing.T) {
	dir := t.TempDir()
	absent := filepath.Join(dir, "absent")
	_, err := LoadKey(absent)
	want := "gossip key " + absent + ": no such file; make one with `weft keygen --out " + absent +
		"`, or copy it from another node, or set `insecure: true` to gossip without a key"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, fifo} { // the FIFO must not block
		if _, err := LoadKey(path); err == nil || !strings.Contains(err.Error(), "not a regular file") {
			t.Errorf("%s: got %v", path, err)
		}
	}
}

func TestWriteKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "etc", "weft", "gossip.key")
	key := NewKey()
	if key == NewKey() {
		t.Fatal("two keys are the same")
	}
	if err := WriteKey(path, key); err != nil {
		t.Fatal(err)
	}
	got, err := LoadKey(path)
	if err != nil || base64.StdEncoding.EncodeToString(got) != key || len(got) != 32 {
		t.Errorf("wrote %s, read %x, %v", key, got, err)
	}
	if err := WriteKey(path, NewKey()); !errors.Is(err, fs.ErrExist) {
		t.Errorf("second write: got %v", err)
	}
	if again, err := LoadKey(path); err != nil || !bytes.Equal(again, got) {
		t.Errorf("the second write changed the key: %v", err)
	}
}

func FuzzKey(f *testing.F) {
	f.Add([]byte(key16))
	f.Add([]byte(key32 + "\r\n"))
	f.Add([]byte("\n" + key16))
	f.Fuzz(func(t *testing.T, text []byte) {
		key, err := parseKey(text)
		if err != nil {
			if key != nil || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %x, %q", key, err)
			}
			return
		}
		want := base64.StdEncoding.EncodeToString(key)
		if got := strings.TrimRight(string(text), "\r\n"); got != want || len(key) != 16 && len(key) != 32 {
			t.Errorf("%q was read as the key %q", text, want)
		}
	})
}
