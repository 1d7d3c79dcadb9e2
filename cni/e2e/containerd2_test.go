//go:build netns && containerd2

package e2e

import (
	"context"
	"strings"
	"testing"
)

// containerd2 returns the path of a containerd that reads cniVersions and calls STATUS. (None up to 2.4.2 calls GC.)
func containerd2(t *testing.T) string {
	t.Helper()
	const version = "v2.2.9"
	const module = "github.com/containerd/containerd/v2/cmd/"
	return built(t, "containerd-"+version, "no_btrfs,no_zfs,no_devmapper",
		module+"containerd@"+version, module+"containerd-shim-runc-v2@"+version)[0]
}

// TestContainerd2 is TestPods with a containerd and plugins that speak CNI 1.1.0.
func TestContainerd2(t *testing.T) {
	for _, wiring := range []string{"routed", "bridge"} {
		t.Run(wiring, func(t *testing.T) { testPods(t, latestPlugins(t), wiring, containerd2(t), containerdConfig) })
	}
}

// TestContainerd2Status expects that the runtime takes no pods while weftd is away.
func TestContainerd2Status(t *testing.T) {
	n := newNode(t, newTopology(t), 1, latestPlugins(t), "routed")
	r := n.startContainerd(containerd2(t), containerdConfig)
	n.stopWeftd()
	if err := r.ready(t.Context()); err == nil || !strings.Contains(err.Error(), "NetworkReady") || !strings.Contains(err.Error(), "weftd") {
		t.Errorf("without weftd: %v", err)
	}
	n.startWeftd()
	n.eventually("the network to be ready again", func(ctx context.Context) error { return r.ready(ctx) })
}
