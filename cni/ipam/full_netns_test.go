//go:build netns

package ipam

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// smallDisk mounts 32 KiB of memory in a mount namespace of the test's own. Its goroutine stays locked to its thread,
// which the runtime throws away with it, and the mount goes with that.
func smallDisk(t *testing.T) string {
	t.Helper()
	runtime.LockOSThread()
	dir := t.TempDir()
	for _, err := range []error{
		unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS),
		unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
		unix.Mount("weft", dir, "tmpfs", 0, "size=32k,mode=0700"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil { // else t.TempDir's clean-up finds it busy
			t.Error(err)
		}
	})
	return dir
}

func TestFullDisk(t *testing.T) {
	s := Open(filepath.Join(smallDisk(t), "attachments"))
	r := blocks("10.244.1.0/24", "fd00:1::/64")
	var err error
	n := 0
	for ; err == nil && n < 100; n++ {
		_, err = s.Add(t.Context(), attachment(fmt.Sprint("c", n)), r)
	}
	var path *fs.PathError
	if !errors.Is(err, unix.ENOSPC) || !errors.As(err, &path) || filepath.Dir(path.Path) != s.dir {
		t.Fatalf("after %d attachments: error %v", n, err)
	}
	t.Logf("after %d attachments: %v", n, err)
	all := list(t, s)
	if len(all) != n-1 || len(all) == 0 || slices.Contains(files(t, s), draftFile) {
		t.Fatalf("%d attachments, files %v", len(all), files(t, s))
	}
	remove(t, s, "c0") // needs no room
	if a := add(t, s, "again", r); slices.Contains(a.Addresses, all[0].Addresses[0]) {
		t.Fatalf("%v is given again at once", a.Addresses)
	}
}

// TestFullFromTheStart has no room for anything at all.
func TestFullFromTheStart(t *testing.T) {
	disk := smallDisk(t)
	fill := filepath.Join(disk, "fill")
	if err := os.WriteFile(fill, make([]byte, 64<<10), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	s := Open(filepath.Join(disk, "deep", "attachments"))
	r := blocks("10.244.1.0/24")
	refuse(t, s, "c1", r, unix.ENOSPC)
	if got := list(t, s); len(got) > 0 {
		t.Fatalf("list %v", got)
	}
	remove(t, s, "c1")
	if err := os.Remove(fill); err != nil {
		t.Fatal(err)
	}
	if a := add(t, s, "c1", r); a.Addresses[0].String() != "10.244.1.2" {
		t.Fatalf("got %v", a.Addresses)
	}
}
