//go:build netns

package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// loopback is in every namespace.
var loopback = Interface{"lo", []netip.Addr{netip.MustParseAddr("127.0.0.1")}}

// TestMain is also the process that Exec replaces.
func TestMain(m *testing.M) {
	if name := os.Getenv("SANDBOX_TEST_EXEC"); name != "" {
		fmt.Println(Exec(Path(name), loopback, "/bin/sh", []string{"sh", "-c", "ls /sys/class/net; ip -o link show up"}, os.Environ()))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// What covers a folder with a mount of itself would make the namespaces in it irremovable.
func TestPreparedDirIsNotCoveredAgain(t *testing.T) {
	dir := t.TempDir()
	if err := errors.Join(prepare(dir), prepare(dir)); err != nil {
		t.Fatal(err)
	}
	if err := unix.Unmount(dir, 0); err != nil {
		t.Fatalf("the folder is no mount: %v", err)
	}
	if err := unix.Unmount(dir, 0); !errors.Is(err, unix.EINVAL) {
		t.Errorf("the folder was mounted twice: %v", err)
	}
}

func TestNamespace(t *testing.T) {
	name := fmt.Sprintf("weft-sandbox-test-%d", os.Getpid())
	t.Cleanup(func() {
		if err := Delete(name); err != nil {
			t.Error(err)
		}
	})
	if Exists(name) {
		t.Fatal("it is there before it was made")
	}
	if err := Create(name); err != nil {
		t.Fatal(err)
	}
	if !Exists(name) {
		t.Error("it was made, and is not there")
	}
	if err := Create(name); !errors.Is(err, fs.ErrExist) {
		t.Errorf("made again: %v", err)
	}

	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "SANDBOX_TEST_EXEC="+name)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(lines) != 2 || lines[0] != "lo" || !strings.Contains(lines[1], "lo: <LOOPBACK,UP") {
		t.Errorf("inside there is %q, want /sys with lo alone, which is up", lines)
	}

	if err := errors.Join(Delete(name), Delete(name)); err != nil {
		t.Error(err)
	}
	if Exists(name) {
		t.Error("it is there after it was deleted")
	}
	if err := Exec(Path(name), loopback, "/bin/true", []string{"true"}, nil); err == nil || !strings.Contains(err.Error(), name) {
		t.Errorf("Exec in none: %v", err)
	}
	if err := os.WriteFile(Path(name), nil, 0); err != nil { // half made
		t.Fatal(err)
	}
	if links, err := Links(name); len(links) != 0 || err != nil {
		t.Errorf("half of one has the links %v, %v", links, err)
	}
	if err := Create(name); !errors.Is(err, fs.ErrExist) {
		t.Errorf("made over half of one: %v", err)
	}
}

// Whoever comes second must not take the first one's away.
func TestCreateAtOnce(t *testing.T) {
	name := fmt.Sprintf("weft-sandbox-once-%d", os.Getpid())
	for range 10 {
		made := make(chan error)
		for range 4 {
			go func() { made <- Create(name) }()
		}
		succeeded := 0
		for range 4 {
			switch err := <-made; {
			case err == nil:
				succeeded++
			case !errors.Is(err, fs.ErrExist):
				t.Error(err)
			}
		}
		ns, err := netns.GetFromName(name)
		if err == nil {
			err = ns.Close()
		}
		if succeeded != 1 || err != nil {
			t.Errorf("%d calls have made it; it is there: %v", succeeded, err)
		}
		if err := Delete(name); err != nil {
			t.Fatal(err)
		}
	}
}

func TestLinks(t *testing.T) {
	name := fmt.Sprintf("weft-sandbox-links-%d", os.Getpid())
	t.Cleanup(func() {
		if err := Delete(name); err != nil {
			t.Error(err)
		}
	})
	if links, err := Links(name); len(links) != 0 || err != nil {
		t.Errorf("none has the links %v, %v", links, err)
	}
	if err := Create(name); err != nil {
		t.Fatal(err)
	}
	if links, err := Links(name); len(links) != 0 || err != nil {
		t.Errorf("a fresh one has the links %v, %v", links, err)
	}
	if names, err := Names(); !slices.Contains(names, name) || err != nil {
		t.Errorf("the names are %v, %v", names, err)
	}
	if out, err := exec.Command("ip", "-n", name, "link", "add", "eth0", "type", "bridge").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if links, err := Links(name); !slices.Equal(links, []string{"eth0"}) || err != nil {
		t.Errorf("it has the links %v, %v, want eth0", links, err)
	}
}

// The program would end the test with an error.
func TestExecRefusesAnotherNamespace(t *testing.T) {
	name := fmt.Sprintf("weft-sandbox-other-%d", os.Getpid())
	t.Cleanup(func() {
		if err := Delete(name); err != nil {
			t.Error(err)
		}
	})
	if err := Create(name); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		path string
		has  Interface
		want string
	}{
		{"/proc/thread-self/ns/net", loopback, "the node's own"},
		{Path(name), Interface{"eth0", loopback.Addresses}, "there is no eth0"},
		{Path(name), Interface{"lo", []netip.Addr{netip.MustParseAddr("10.244.1.7")}}, "its lo has none of [10.244.1.7]"},
	} {
		err := Exec(test.path, test.has, "/bin/false", []string{"false"}, nil)
		if !errors.Is(err, ErrOther) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s, %v: %v; want %s", test.path, test.has, err, test.want)
		}
	}
}
