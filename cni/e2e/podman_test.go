//go:build netns && podman

package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/weft-net/weft/bench/topo"
)

// podman is Debian's on a node. It has no daemon: the first process of its PID and mount namespaces stands for the machine's init, and
// everything that Podman starts or mounts ends with it.
type podman struct {
	n    *node
	init *topo.Process
}

const (
	// podmanStart waits, which reaps orphans, such as conmon. Arguments: those of ownFolders. Podman's locks are in /dev/shm, and
	// crun refuses cgroups of both versions ("hybrid mode"), which some machines have.
	podmanStart = ownFolders + `mount -t tmpfs shm /dev/shm
mount -t cgroup2 cgroup2 /sys/fs/cgroup
touch /run/up
sleep infinity & wait`

	// podmanConfig is containers.conf(5). [network] is what a user of weft sets; without the rest Podman would want systemd, and
	// leave cgroups on this machine.
	podmanConfig = `[network]
network_backend = "cni"
cni_plugin_dirs = [%q]
network_config_dir = %q
default_network = "weft"
[engine]
events_logger = "file"
cgroup_manager = "cgroupfs"
[containers]
cgroups = "disabled"
`
)

// startPodman prepares Podman on the node, which knows the image when this returns.
func (n *node) startPodman() *podman {
	n.t.Helper()
	image := filepath.Join(n.top.Dir(), "image.tar")
	err := errors.Join(os.Mkdir(filepath.Join(n.libDir(), "run"), 0o755), writeImage(image),
		os.WriteFile(n.path("containers.conf"), fmt.Appendf(nil, podmanConfig, n.binDir(), n.confDir()), 0o600))
	if err != nil {
		n.t.Fatal(err)
	}
	p := &podman{n: n}
	p.boot()
	p.must("load", "--quiet", "--input", image)
	return p
}

// boot starts what stands for init.
func (p *podman) boot() {
	n := p.n
	n.t.Helper()
	var err error
	p.init, err = n.Start("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", podmanStart, "-", n.top.Dir(), n.libDir())
	if err != nil {
		n.t.Fatal(err)
	}
	n.eventually("the folders of Podman", func(ctx context.Context) error {
		_, err := p.inside(ctx, "test", "-e", "/run/up")
		return err
	})
}

// shutDown ends init, all containers, and their namespaces.
func (p *podman) shutDown() {
	p.n.t.Helper()
	if err := p.init.Kill(); err != nil {
		p.n.t.Fatal(err)
	}
}

// inside runs a command in Podman's namespaces.
func (p *podman) inside(ctx context.Context, args ...string) (string, error) {
	of := fmt.Sprintf("/proc/%d/ns/", p.init.PID())
	return p.n.Run(ctx, append([]string{"nsenter", "--mount=" + of + "mnt", "--pid=" + of + "pid_for_children", "--"}, args...)...)
}

// podman runs Podman.
func (p *podman) podman(ctx context.Context, args ...string) (string, error) {
	out, err := p.inside(ctx, append([]string{"env", "CONTAINERS_CONF=" + p.n.path("containers.conf"), "podman"}, args...)...)
	return strings.TrimSpace(out), err
}

// must is podman where an error ends the test.
func (p *podman) must(args ...string) string {
	p.n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	out, err := p.podman(ctx, args...)
	if err != nil {
		p.n.t.Fatal(err)
	}
	return out
}

// run makes a container with the image's web server.
func (p *podman) run(ctx context.Context, options ...string) (id string, err error) {
	args := append([]string{"run", "--detach", "--quiet"}, options...)
	return p.podman(ctx, append(args, "--entrypoint", "/bin/busybox", imageName, "httpd", "-f", "-p", fmt.Sprint(webPort), "-h", "/www")...)
}

// runSandbox is run by name.
func (p *podman) runSandbox(ctx context.Context, name string, ports ...mapping) (id string, err error) {
	options := []string{"--network", network, "--name", name}
	for _, m := range ports {
		options = append(options, "--publish", fmt.Sprintf("%d:%d", m.host, m.pod))
	}
	return p.run(ctx, options...)
}

// serve is run where an error ends the test.
func (p *podman) serve(options ...string) *pod {
	p.n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	id, err := p.run(ctx, options...)
	if err != nil {
		p.n.t.Fatal(err)
	}
	return p.running(id)
}

// running returns a container that runs.
func (p *podman) running(id string) *pod {
	p.n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	addrs, err := p.addresses(ctx, id)
	if err != nil {
		p.n.t.Fatal(err)
	}
	return &pod{n: p.n, r: p, id: id, container: id, addrs: addrs}
}

// addresses asks for those that a container has in its networks.
func (p *podman) addresses(ctx context.Context, id string) ([]netip.Addr, error) {
	out, err := p.podman(ctx, "inspect", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{.GlobalIPv6Address}} {{end}}", id)
	if err != nil {
		return nil, err
	}
	return parseAddrs(strings.Fields(out))
}

// exec runs a command in a container, and returns what it prints.
func (p *podman) exec(ctx context.Context, container string, args ...string) (string, error) {
	return p.podman(ctx, append([]string{"exec", container}, args...)...)
}

// removeSandbox ends a container, running or not, and removes it.
func (p *podman) removeSandbox(ctx context.Context, id string) error {
	_, err := p.podman(ctx, "rm", "--force", "--time", "0", id)
	return err
}
