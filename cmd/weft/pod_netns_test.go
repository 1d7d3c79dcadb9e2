//go:build netns

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weft-net/weft/cni/ipam"
	"github.com/weft-net/weft/cni/sandbox"
)

// podSandbox makes the namespace that the pod of that name would have, gone with the test.
func podSandbox(t *testing.T, label string) (name string) {
	t.Helper()
	name = fmt.Sprintf("t%d-%s", os.Getpid(), label)
	t.Cleanup(func() {
		if err := sandbox.Delete(podPrefix + name); err != nil {
			t.Error(err)
		}
	})
	if err := sandbox.Create(podPrefix + name); err != nil {
		t.Fatal(err)
	}
	return name
}

func addLink(t *testing.T, pod, link string) {
	t.Helper()
	if out, err := exec.Command("ip", "-n", podPrefix+pod, "link", "add", link, "type", "bridge").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

func TestPodDel(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "attachments")
	half, other, own, borrowed, bad := podSandbox(t, "half"), podSandbox(t, "other"), podSandbox(t, "own"), podSandbox(t, "borrowed"), podSandbox(t, "bad")
	addLink(t, other, "eth0")
	addLink(t, own, "mine")
	addRecord(t, dir, podPrefix+own, sandbox.Path(podPrefix+own))
	addRecord(t, dir, podPrefix+borrowed, "/proc/self/ns/net")
	damage(t, dir, podPrefix+bad+":eth0")
	for _, test := range []struct {
		name string
		left bool
		says string
	}{
		{half, false, ""},
		{other, true, "has links (eth0)"}, // no record: somebody else's
		{own, false, ""},
		{borrowed, true, ""}, // the pod's is another
		{bad, false, ""},
		{half, false, "there is no pod"},
	} {
		got := runWith(t.Context(), &links{}, "pod", "del", test.name, "--data-dir", dir)
		if (got.status == 0) != (test.says == "") || !strings.Contains(got.errOut, test.says) || sandbox.Exists(podPrefix+test.name) != test.left {
			t.Errorf("%s: %+v, and it is there: %t", test.name, got, sandbox.Exists(podPrefix+test.name))
		}
	}
	if left, damaged, err := ipam.Open(dir).List(); len(left)+len(damaged) != 0 || err != nil {
		t.Errorf("left on record: %v, %v, %v", left, damaged, err)
	}
}

func TestPodListShowsHalfMade(t *testing.T) {
	half := podSandbox(t, "half")
	got := runWith(t.Context(), &links{}, "pod", "list", "--data-dir", filepath.Join(t.TempDir(), "none"))
	if got.status != 0 || !strings.Contains(got.out, half+" ") || !strings.Contains(got.out, "it has no record") {
		t.Errorf("%+v", got)
	}
}

// Its command would end the test with an error.
func TestPodExecRefusesAnotherNamespace(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "attachments")
	name := podSandbox(t, "reused")
	addRecord(t, dir, podPrefix+name, sandbox.Path(podPrefix+name))
	got := runWith(t.Context(), &links{}, "pod", "exec", "--data-dir", dir, name, "--", "false")
	if got.status != 1 || !strings.Contains(got.errOut, "it is not the pod's, there is no eth0 in it: delete pod "+name) {
		t.Errorf("%+v", got)
	}
}
