//go:build netns

package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestMain is also the process that Exec replaces.
func TestMain(m *testing.M) {
	if name := os.Getenv("SANDBOX_TEST_EXEC"); name != "" {
		fmt.Println(Exec(Path(name), "/bin/sh", []string{"sh", "-c", "ls /sys/class/net; ip -o link show up"}, os.Environ()))
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
	if err := Exec(Path(name), "/bin/true", []string{"true"}, nil); err == nil || !strings.Contains(err.Error(), name) {
		t.Errorf("Exec in none: %v", err)
	}
	if err := os.WriteFile(Path(name), nil, 0); err != nil { // half made
		t.Fatal(err)
	}
	if err := Create(name); !errors.Is(err, fs.ErrExist) {
		t.Errorf("made over half of one: %v", err)
	}
}
