package static

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait; interval, after which a change is found though nothing tells of it, is longer.
const patience = 5 * time.Second

const _ = uint(interval - patience - 1)

// watched is a file under test, and what was taken from it.
type watched struct {
	t    *testing.T
	dir  string
	path string
	took chan string // "=text" or "!error"; "-" where there is no file

	mu  sync.Mutex
	log bytes.Buffer
}

func (w *watched) Write(line []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.Write(line)
}

func (w *watched) logged(text string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Count(w.log.String(), text)
}

// in is a file of that path in a new directory; open begins to watch it.
func in(t *testing.T, path string) *watched {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return &watched{t: t, dir: dir, path: filepath.Join(dir, path), took: make(chan string, 100)}
}

func (w *watched) open() {
	w.t.Helper()
	f, err := Open(w.path, slog.New(slog.NewTextHandler(w, nil)), func(text []byte, err error) {
		switch {
		case err != nil:
			w.took <- "!" + strings.ReplaceAll(err.Error(), w.dir, "DIR")
		case text == nil:
			w.took <- "-"
		default:
			w.took <- "=" + string(text)
		}
	})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- f.Run(ctx) }()
	w.t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			w.t.Error(err)
		}
		if err := f.Close(); err != nil {
			w.t.Error(err)
		}
		select {
		case more := <-w.took:
			w.t.Errorf("%s was taken besides", more)
		default:
		}
	})
}

// takes waits for want to be taken, and for nothing else before it but what may be passing, and emptiness: what is
// written in place is empty first, and this test may be held up there.
func (w *watched) takes(want string, passing ...string) {
	w.t.Helper()
	limit := time.After(patience)
	for {
		select {
		case got := <-w.took:
			if got == want {
				return
			}
			if got != "=" && !slices.Contains(passing, got) {
				w.t.Fatalf("%.200q was taken, want %.200q", got, want)
			}
		case <-limit:
			w.t.Fatalf("after %s %.200q is not taken", patience, want)
		}
	}
}

func (w *watched) must(errs ...error) {
	w.t.Helper()
	for _, err := range errs {
		if err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *watched) at(name string) string { return filepath.Join(w.dir, name) }

func (w *watched) write(name, text string) {
	w.t.Helper()
	w.must(os.WriteFile(w.at(name), []byte(text), 0o600))
}

func TestWrittenInPlace(t *testing.T) {
	w := in(t, "peers")
	w.write("peers", "a")
	w.open()
	w.takes("=a")
	w.write("peers", "b") // empties it first
	w.takes("=b")
	f, err := os.OpenFile(w.path, os.O_APPEND|os.O_WRONLY, 0)
	w.must(err)
	_, err = f.WriteString("c")
	w.must(err, f.Close())
	w.takes("=bc")
	w.must(os.Truncate(w.path, 0))
	w.takes("=")
}

// What changes again and again is taken, and not only once it has come to rest.
func TestWrittenAllTheTime(t *testing.T) {
	w := in(t, "peers")
	w.write("peers", "0")
	w.open()
	w.takes("=0")
	write := time.NewTicker(quiet / 4)
	defer write.Stop()
	deadline := time.After(patience)
	for i := 1; len(w.took) == 0; i++ {
		w.write("peers~", fmt.Sprint(i))
		w.must(os.Rename(w.at("peers~"), w.path))
		select {
		case <-write.C:
		case <-deadline:
			t.Fatalf("nothing is taken within %s", patience)
		}
	}
	w.write("peers~", "end")
	w.must(os.Rename(w.at("peers~"), w.path))
	w.takes("=end", <-w.took)
}

// Editors put another file in its place.
func TestRenamed(t *testing.T) {
	w := in(t, "peers")
	w.write("peers", "a")
	w.open()
	w.takes("=a")
	for _, text := range []string{"b", "c"} {
		w.write("peers~", text)
		w.must(os.Rename(w.at("peers~"), w.path))
		w.takes("=" + text)
	}
	w.must(os.Rename(w.path, w.at("backup"))) // as vi does
	w.write("peers", "d")
	w.takes("=d", "-")
}

func TestMissing(t *testing.T) {
	w := in(t, "peers")
	w.open()
	w.takes("-")
	if n := w.logged("no such file"); n != 1 {
		t.Errorf("said %d times that there is no file", n)
	}
	w.write("peers", "a")
	w.takes("=a")
	w.must(os.Remove(w.path))
	w.takes("-")
	if n := w.logged("no such file"); n != 2 {
		t.Errorf("said %d times that there is no file, after it went", n)
	}
	w.write("peers", "a")
	w.takes("=a")
}

// The directory may come later, and go, and be another.
func TestMissingDirectory(t *testing.T) {
	w := in(t, "etc/weft/peers")
	w.open()
	w.takes("-")
	w.must(os.MkdirAll(w.at("etc/weft"), 0o700))
	w.write("etc/weft/peers", "a")
	w.takes("=a")
	w.must(os.MkdirAll(w.at("other"), 0o700))
	w.write("other/peers", "b")
	w.must(os.Rename(w.at("etc/weft"), w.at("old")), os.Rename(w.at("other"), w.at("etc/weft")))
	w.takes("=b")
	w.write("etc/weft/peers", "c")
	w.takes("=c")
	w.must(os.RemoveAll(w.at("old")), os.RemoveAll(w.at("etc/weft")))
	w.takes("-")
	w.must(os.Mkdir(w.at("etc/weft"), 0o700))
	w.write("etc/weft/peers", "d")
	w.takes("=d")
}

// The kubelet's AtomicWriter: peers -> ..data/peers, ..data -> a directory for each version, which is swapped by a
// rename, after which the old one is removed.
func TestConfigMap(t *testing.T) {
	w := in(t, "peers")
	version := func(name, text string) {
		w.must(os.Mkdir(w.at(name), 0o700))
		w.write(name+"/peers", text)
		w.must(os.Symlink(name, w.at("..data_tmp")), os.Rename(w.at("..data_tmp"), w.at("..data")))
	}
	version("..1", "a")
	w.must(os.Symlink("..data/peers", w.path))
	w.open()
	w.takes("=a")
	for i, text := range []string{"b", "c", "d"} {
		version(fmt.Sprintf("..%d", i+2), text)
		w.must(os.RemoveAll(w.at(fmt.Sprintf("..%d", i+1))))
		w.takes("=" + text)
	}
	w.write("..4/peers", "e")
	w.takes("=e")
}

// A link is followed wherever it leads, and wherever on the way it is.
func TestLinks(t *testing.T) {
	w := in(t, "etc/current/peers")
	w.must(os.MkdirAll(w.at("etc"), 0o700), os.MkdirAll(w.at("srv/1"), 0o700), os.MkdirAll(w.at("srv/2"), 0o700), os.Mkdir(w.at("far"), 0o700))
	w.write("far/peers", "a")
	w.must(os.Symlink("../srv/1", w.at("etc/current")), os.Symlink(w.at("far/peers"), w.at("srv/1/peers")))
	w.open()
	w.takes("=a")
	w.write("far/peers", "b")
	w.takes("=b")
	w.write("srv/2/peers", "c")
	w.must(os.Symlink("../srv/2", w.at("etc/next")), os.Rename(w.at("etc/next"), w.at("etc/current")))
	w.takes("=c")
	w.must(os.Remove(w.at("etc/current")))
	w.takes("-")
	w.must(os.Symlink("../srv/1", w.at("etc/current")))
	w.takes("=b")
}

func TestUnreadable(t *testing.T) {
	w := in(t, "peers")
	w.write("peers", "a")
	w.open()
	w.takes("=a")
	w.write("peers", strings.Repeat("x", maxSize+1))
	w.takes("!DIR/peers has more than 1048576 bytes: is it the right file?")
	w.write("peers", "a")
	w.takes("=a") // though it is what was read last
	w.must(os.Remove(w.path), os.Mkdir(w.path, 0o700))
	w.takes("!DIR/peers is not a regular file; put one in its place")
	w.must(os.Remove(w.path))
	w.takes("-")
	w.must(syscall.Mkfifo(w.path, 0o600)) // with nobody to write
	w.takes("!DIR/peers is not a regular file; put one in its place")
	w.must(os.Remove(w.path), os.Symlink("peers", w.path))
	w.takes("!DIR/peers cannot be read: too many levels of symbolic links; `namei -l DIR/peers` shows the way to it")
	w.must(os.Remove(w.path))
	w.takes("-")
	w.write("peers", strings.Repeat("x", maxSize))
	w.takes("=" + strings.Repeat("x", maxSize))
}

// What leaves the text as it is, is no change.
func TestUnchanged(t *testing.T) {
	w := in(t, "peers")
	w.write("peers", "a")
	w.open()
	w.takes("=a")
	w.must(os.Chmod(w.path, 0o644))
	w.write("other", "b")
	w.write("peers~", "a")
	w.must(os.Rename(w.at("peers~"), w.path))
	w.write("peers~", "c")
	w.must(os.Rename(w.at("peers~"), w.path))
	w.takes("=c")
}

func TestPlaces(t *testing.T) {
	w := in(t, "peers")
	w.must(os.MkdirAll(w.at("a/b"), 0o700), os.Symlink("a", w.at("link")), os.Symlink(w.at("link/b/.."), w.at("back")), os.Symlink("loop", w.at("loop")))
	w.write("a/b/peers", "")
	for path, want := range map[string][]string{
		"a/b/peers":    {"a/b/peers"},
		"a/b/none":     {"a/b/none"},
		"none/b/peers": {"none"},
		"a/b/peers/x":  {"a/b/peers/x"},
		"link/b/peers": {"link", "a/b/peers"},
		"back/b/peers": {"back", "link", "a/b/peers"},
		"loop":         slices.Repeat([]string{"loop"}, maxLinks+1),
		"link/none":    {"link", "a/none"},
	} {
		var got []string
		for _, entry := range places(filepath.Join(w.dir, path)) {
			got = append(got, strings.TrimPrefix(entry, w.dir+"/"))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
}

// A change that nothing tells of is found by the look that comes in any case.
func TestNotTold(t *testing.T) {
	if _, err := newWatch([]string{"/", "/none/peers"}, nil); err == nil || !strings.Contains(err.Error(), "watch /none: ") {
		t.Errorf("watching a directory that is not there: %v", err)
	}
	w := in(t, "peers")
	var took []string
	f := &File{path: w.path, log: slog.New(slog.NewTextHandler(w, nil)), take: func(text []byte, _ error) { took = append(took, string(text)) }}
	for _, text := range []string{"a", "b", "b"} {
		w.write("peers", text)
		f.look()
	}
	if !slices.Equal(took, []string{"a", "b"}) {
		t.Errorf("%q was taken", took)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}
