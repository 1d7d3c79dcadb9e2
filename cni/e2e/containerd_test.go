//go:build netns

package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/bench/topo"
)

// containerd is one on a node. It has PID and mount namespaces of its own, so that everything that it starts or
// mounts ends with it, and sees folders of the node's in place of /run and /var/lib.
type containerd struct {
	*criClient
	n       *node
	binary  string // containerd's
	script  string // that starts it
	process *topo.Process
}

// A mapping of a port of the node to one of a pod, both TCP.
type mapping struct{ host, pod uint16 }

const (
	webPort = 8080 // of the image's server

	// ownFolders gives a runtime folders of the node's in place of /var/lib and /run; what it puts in /run is gone with its
	// namespaces. Arguments: the topology's folder, the node's for /var/lib.
	ownFolders = `set -e
mount --make-rprivate /
mount --bind "$2" /var/lib
mount -t tmpfs run "$2/run"
mkdir "$2/run/$(basename "$1")"
mount --bind "$1" "$2/run/$(basename "$1")"
mount --no-mtab --move "$2/run" /run
`
	// containerdStart runs containerd as the first process of its namespaces. Arguments: those of ownFolders, containerd, its
	// configuration. The shim is the one beside containerd.
	containerdStart = ownFolders + `PATH=$(dirname "$3"):$PATH exec "$3" --config "$4"`

	// %[1]s is the root, which a reboot leaves, %[2]s the state, which it does not.
	containerdConfig = `version = 2
root = %[1]q
state = %[2]q
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper"]
[grpc]
  address = %[3]q
[ttrpc]
  address = "%[3]s.ttrpc"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = %[4]q
  restrict_oom_score_adj = true
  disable_apparmor = true
  disable_tcp_service = true
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = %[5]q
    conf_dir = %[6]q
`
)

// startContainerd starts a containerd on the node, which knows the image and the network when this returns.
func (n *node) startContainerd(binary, config string) *containerd {
	n.t.Helper()
	r := n.newContainerd(binary, config, containerdStart)
	r.start()
	r.importImage(filepath.Join(n.top.Dir(), "image.tar"))
	return r
}

// newContainerd prepares a containerd, and writes the image.
func (n *node) newContainerd(binary, config, script string) *containerd {
	n.t.Helper()
	r := &containerd{n: n, binary: binary, script: script, criClient: newCRIClient(n.path("cri"))}
	n.t.Cleanup(r.close)
	n.t.Cleanup(r.removeCgroups)
	err := errors.Join(os.MkdirAll(filepath.Join(n.libDir(), "run"), 0o755), writeImage(filepath.Join(n.top.Dir(), "image.tar")),
		os.WriteFile(n.path("toml"), fmt.Appendf(nil, config, filepath.Join(n.libDir(), "containerd"), n.path("cri.state"), n.path("cri"), imageName, n.binDir(), n.confDir()), 0o600))
	if err != nil {
		n.t.Fatal(err)
	}
	return r
}

// importImage has kubelet's pods know the image of an archive.
func (r *containerd) importImage(path string) {
	r.n.t.Helper()
	r.ctr("image", "import", path)
}

// ctr runs containerd's own client.
func (r *containerd) ctr(args ...string) string {
	r.n.t.Helper()
	return r.n.run(append([]string{"ctr", "--address", r.n.path("cri"), "--namespace", "k8s.io"}, args...)...)
}

// start starts containerd, and waits until it knows its network.
func (r *containerd) start() {
	r.n.t.Helper()
	r.launch()
	r.n.eventually("containerd to know its network", r.ready)
}

// launch starts containerd, and waits until it answers.
func (r *containerd) launch() {
	n := r.n
	n.t.Helper()
	var err error
	r.process, err = n.Start("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", r.script, "-",
		n.top.Dir(), n.libDir(), r.binary, n.path("toml"))
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() {
		if log, err := r.process.Log(); n.t.Failed() && err == nil {
			n.t.Logf("log of %s's containerd:\n%s", n, log[max(0, len(log)-3000):])
		}
	})
	n.eventually("containerd to answer", func(ctx context.Context) error {
		select {
		case <-r.process.Done():
			n.t.Fatal("containerd has ended")
		default:
		}
		_, err := r.call(ctx, "Status", nil)
		return err
	})
}

// ready returns what containerd says is not, of itself and of the network.
func (r *containerd) ready(ctx context.Context) error {
	answer, err := r.call(ctx, "Status", nil)
	if err != nil {
		return err
	}
	var errs []error
	for condition := range answer.first(1).inner.fields(1) {
		name, met := string(condition.inner.first(1).inner), condition.inner.first(2).number == 1
		if strings.HasSuffix(name, "Ready") && !met { // others are containerd's own, such as of deprecated keys
			errs = append(errs, fmt.Errorf("%s: %s", name, condition.inner.first(4).inner))
		}
	}
	return errors.Join(errs...)
}

// kill ends containerd, its shims and containers, with their namespaces.
func (r *containerd) kill() {
	r.n.t.Helper()
	if err := r.process.Kill(); err != nil {
		r.n.t.Fatal(err)
	}
}

// cgroup is the parent of all containers' groups.
func (r *containerd) cgroup() string { return filepath.Base(r.n.top.Dir()) + "-" + r.n.String() }

// removeCgroups removes the groups of containers that have been killed; the kernel has those of version 1 in several trees.
func (r *containerd) removeCgroups() {
	if r.process != nil {
		r.kill()
	}
	err := topo.WaitUntil(context.Background(), patience, func(context.Context) error {
		var errs []error
		for _, pattern := range []string{"/sys/fs/cgroup/", "/sys/fs/cgroup/*/"} {
			for _, depth := range []string{"/*/*", "/*", ""} {
				groups, err := filepath.Glob(pattern + r.cgroup() + depth)
				errs = append(errs, err)
				for _, g := range groups {
					if info, err := os.Stat(g); err == nil && info.IsDir() {
						errs = append(errs, unix.Rmdir(g))
					}
				}
			}
		}
		return errors.Join(errs...)
	}, func() error { return nil })
	if err != nil {
		r.n.t.Errorf("remove the containers' cgroups: %v", err)
	}
}

// sandbox makes the request's part that says what a pod is.
func (r *containerd) sandbox(name string, ports []mapping) message {
	var config message
	config = config.embed(1, message(nil).text(1, name).text(2, name+"-uid").text(3, "e2e"))
	config = config.text(3, r.n.path("cri.state")) // for logs
	for _, p := range ports {
		config = config.embed(5, message(nil).number(2, uint64(p.pod)).number(3, uint64(p.host)))
	}
	return config.embed(8, message(nil).text(1, "/"+r.cgroup()))
}

// runSandbox makes a pod without containers. Its ID is "" after an error.
func (r *containerd) runSandbox(ctx context.Context, name string, ports ...mapping) (id string, err error) {
	answer, err := r.call(ctx, "RunPodSandbox", message(nil).embed(1, r.sandbox(name, ports)))
	return string(answer.first(1).inner), err
}

// removeSandbox undoes runSandbox, and what runs in the pod.
func (r *containerd) removeSandbox(ctx context.Context, id string) error {
	if _, err := r.call(ctx, "StopPodSandbox", message(nil).text(1, id)); err != nil {
		return err
	}
	_, err := r.call(ctx, "RemovePodSandbox", message(nil).text(1, id))
	return err
}

// addresses asks for a pod's.
func (r *containerd) addresses(ctx context.Context, id string) ([]netip.Addr, error) {
	answer, err := r.call(ctx, "PodSandboxStatus", message(nil).text(1, id))
	if err != nil {
		return nil, err
	}
	network := answer.first(1).inner.first(5).inner
	texts := []string{string(network.first(1).inner)}
	for more := range network.fields(2) {
		texts = append(texts, string(more.inner.first(1).inner))
	}
	return parseAddrs(texts)
}

// exec runs a command in a container, and returns what it prints.
func (r *containerd) exec(ctx context.Context, container string, args ...string) (string, error) {
	answer, err := r.call(ctx, "ExecSync", message(nil).text(1, container).text(2, args...).number(3, uint64(patience.Seconds())))
	if err != nil {
		return "", err
	}
	if code := answer.first(3).number; code != 0 {
		return "", fmt.Errorf("%s: exit status %d: %s", strings.Join(args, " "), code, answer.first(2).inner)
	}
	return string(answer.first(1).inner), nil
}
