//go:build netns

package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const (
	binaries     = "../../bin"    // made by `make build`
	debianCNI    = "/usr/lib/cni" // of containernetworking-plugins: CNI 1.0.0
	referenceCNI = "v1.9.1"       // of github.com/containernetworking/plugins: CNI 1.1.0

	// buildPatience bounds the build of what others have written, with an empty cache: containerd takes 4 minutes.
	buildPatience = 10 * time.Minute
)

// Plugins of the reference that a node has beside weft-cni. Immutable.
var chained = []string{"loopback", "portmap", "bandwidth", "tuning", "firewall"}

// cnitool returns the path of the field's program that runs plugins.
func cnitool(t *testing.T) string {
	t.Helper()
	return built(t, ".", "", "github.com/containernetworking/cni/cnitool")[0]
}

// latestPlugins returns the folder of the reference plugins.
func latestPlugins(t *testing.T) string {
	t.Helper()
	var packages []string
	for _, p := range chained {
		kind := "meta"
		if p == "loopback" {
			kind = "main"
		}
		packages = append(packages, fmt.Sprintf("github.com/containernetworking/plugins/plugins/%s/%s@%s", kind, p, referenceCNI))
	}
	return filepath.Dir(built(t, "cni-plugins-"+referenceCNI, "", packages...)[0])
}

// built installs commands, all of one module, in a folder of `make build`'s where they are not there yet, and returns
// their paths.
func built(t *testing.T, folder, tags string, packages ...string) []string {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join(binaries, folder))
	if err != nil {
		t.Fatal(err)
	}
	var paths []string
	missing := false
	for _, p := range packages {
		name, _, _ := strings.Cut(filepath.Base(p), "@")
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); err != nil {
			missing = true
		}
		paths = append(paths, path)
	}
	if !missing {
		return paths
	}
	ctx, cancel := context.WithTimeout(context.Background(), buildPatience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", append([]string{"install", "-trimpath", "-tags", tags}, packages...)...)
	cmd.Env = append(cmd.Environ(), "GOBIN="+dir, "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
	return paths
}
