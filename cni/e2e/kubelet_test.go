//go:build netns && daemonset

package e2e

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"testing"

	"github.com/weft-net/weft/bench/topo"
)

// kubeletStart is containerdStart with folders of the node's for runtimes' plugins and configuration, where a node has them.
const kubeletStart = `set -e
mount --make-rprivate /
for dir in etc opt; do
	mkdir -p "$2/$dir" "$2/$dir.work"
	mount -t overlay -o "lowerdir=/$dir,upperdir=$2/$dir,workdir=$2/$dir.work" "$dir" "/$dir"
done
mkdir -p /etc/cni/net.d /opt/cni/bin
mount --bind "${2%.lib}.conf" /etc/cni/net.d
mount --bind "${2%.lib}.bin" /opt/cni/bin
` + containerdStart

// Of pkg/apis/runtime/v1/api.proto.
const (
	networkOfNode = 2 // NamespaceMode NODE
	pidOwn        = 1 // NamespaceMode CONTAINER
	stateExited   = 2 // ContainerState
)

// What a kubelet masks in containers that are not privileged (pkg/securitycontext/util.go). Immutable.
var (
	maskedPaths   = []string{"/proc/asound", "/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware"}
	readonlyPaths = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
)

// kubelet does on a node what a kubelet does for the manifest's pod (pkg/kubelet/kuberuntime), and a runtime for its.
type kubelet struct {
	*containerd
	manifest
	images map[string]string // by the manifest's names, containerd's
	weft   weftPod
}

// weftPod is one that has been started of the manifest.
type weftPod struct{ sandbox, container string }

func newKubelet(t *testing.T, top *topo.Topology, number int, m manifest) *kubelet {
	t.Helper()
	n := newHost(t, top, number, debianCNI)
	k := &kubelet{containerd: n.newContainerd(containerd16, containerdConfig, kubeletStart), manifest: m}
	k.launch()
	k.importImage(filepath.Join(top.Dir(), "image.tar"))
	k.importImage(archiveOf(t))
	k.images = map[string]string{"weft:latest": k.imported(), "docker.io/library/busybox:1.37": imageName}
	return k
}

// archiveOf is where `make package` has put the image.
func archiveOf(t *testing.T) string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(binaries, "package", "*.oci.tar"))
	if err != nil || len(paths) != 1 {
		t.Fatalf("images: %q, %v: run `make package`", paths, err)
	}
	return paths[0]
}

// imported is the name of weft's image, which has to be for both architectures.
func (k *kubelet) imported() string {
	t := k.n.t
	t.Helper()
	list := k.ctr("image", "list")
	for line := range strings.Lines(list) {
		if name, _, _ := strings.Cut(line, " "); strings.HasPrefix(name, "docker.io/library/weft:") && strings.Contains(line, "linux/amd64,linux/arm64") {
			return name
		}
	}
	t.Fatalf("no image of weft's for amd64 and arm64:\n%s", list)
	return ""
}

// path is where the test sees a path of the node's.
func (k *kubelet) path(path string) string {
	return filepath.Join(fmt.Sprintf("/proc/%d/root", k.process.PID()), path)
}

// run starts the manifest's pod: its init containers one after the other, then its container.
func (k *kubelet) run() {
	t := k.n.t
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	answer, err := k.call(ctx, "RunPodSandbox", message(nil).embed(1, k.podSandbox()))
	if err != nil {
		t.Fatal(err)
	}
	k.weft.sandbox = string(answer.first(1).inner)
	for _, c := range k.pod.InitContainers {
		id := k.startContainer(ctx, c)
		k.n.eventually("init container "+c.Name+" to end", func(ctx context.Context) error {
			state, code, err := k.state(ctx, id)
			if err == nil && state != stateExited {
				err = errors.New("it runs")
			}
			if err == nil && code != 0 {
				t.Fatalf("init container %s: exit status %d:\n%s", c.Name, code, k.log(c.Name))
			}
			return err
		})
	}
	k.weft.container = k.startContainer(ctx, k.pod.Containers[0])
}

// podSandbox makes the request's part that says what the pod is.
func (k *kubelet) podSandbox() message {
	privileged := uint64(0)
	for _, c := range append(k.pod.InitContainers, k.pod.Containers...) {
		if c.SecurityContext.Privileged {
			privileged = 1
		}
	}
	context := message(nil).embed(1, namespaces()).number(6, privileged).embed(9, nil)
	return k.sandbox("weft", nil).embed(8, message(nil).embed(2, context))
}

// namespaces is what hostNetwork means.
func namespaces() message { return message(nil).number(1, networkOfNode).number(2, pidOwn) }

// startContainer starts one in the pod, and returns its ID.
func (k *kubelet) startContainer(ctx context.Context, c containerSpec) string {
	t := k.n.t
	t.Helper()
	answer, err := k.call(ctx, "CreateContainer", message(nil).text(1, k.weft.sandbox).embed(2, k.containerConfig(c)).embed(3, k.podSandbox()))
	if err != nil {
		t.Fatal(err)
	}
	id := string(answer.first(1).inner)
	if _, err := k.call(ctx, "StartContainer", message(nil).text(1, id)); err != nil {
		t.Fatal(err)
	}
	return id
}

func (k *kubelet) containerConfig(c containerSpec) message {
	k.n.t.Helper()
	image, ok := k.images[c.Image]
	if !ok {
		k.n.t.Fatalf("there is no image %s here", c.Image)
	}
	config := message(nil).embed(1, message(nil).text(1, c.Name)).embed(2, message(nil).text(1, image)).
		text(3, c.Command...).text(4, c.Args...).text(11, c.Name+".log")
	for _, e := range c.Env {
		value := e.Value
		switch field := e.ValueFrom.FieldRef.FieldPath; field {
		case "":
		case "spec.nodeName":
			value = k.n.String()
		default:
			k.n.t.Fatalf("%s is not known here", field)
		}
		config = config.embed(6, message(nil).text(1, e.Name).text(2, value))
	}
	for _, m := range c.VolumeMounts {
		mount := message(nil).text(1, m.MountPath).text(2, k.volume(m.Name))
		if m.ReadOnly {
			mount = mount.number(3, 1)
		}
		config = config.embed(7, mount)
	}
	return config.embed(15, message(nil).embed(2, c.SecurityContext.message()))
}

func (s securityContext) message() message {
	var capabilities message
	capabilities = capabilities.text(1, s.Capabilities.Add...).text(2, s.Capabilities.Drop...)
	m := message(nil).embed(1, capabilities).embed(3, namespaces())
	if s.Privileged {
		return m.number(2, 1)
	}
	m = m.text(13, maskedPaths...).text(14, readonlyPaths...)
	if s.ReadOnlyRootFilesystem {
		m = m.number(7, 1)
	}
	if s.AllowPrivilegeEscalation != nil && !*s.AllowPrivilegeEscalation {
		m = m.number(11, 1)
	}
	if s.SeccompProfile != nil && s.SeccompProfile.Type == "RuntimeDefault" {
		m = m.embed(15, nil)
	}
	return m
}

// volume makes the volume of that name, and returns where it is on the node.
func (k *kubelet) volume(name string) string {
	t := k.n.t
	t.Helper()
	for _, v := range k.pod.Volumes {
		switch {
		case v.Name != name:
		case v.Projected != nil:
			return k.project(*v.Projected)
		case v.HostPath.Type == "DirectoryOrCreate":
			if err := os.MkdirAll(k.path(v.HostPath.Path), 0o755); err != nil {
				t.Fatal(err)
			}
			return v.HostPath.Path
		case v.HostPath.Type == "CharDevice":
			return v.HostPath.Path
		}
	}
	t.Fatalf("there is no volume %s of a kind that is known here", name)
	return ""
}

// project writes the ConfigMap and the Secret, as links into a folder that is replaced as a whole (pkg/volume/util/atomic_writer.go).
func (k *kubelet) project(p projected) string {
	t := k.n.t
	t.Helper()
	dir := k.n.path("config")
	config, err := k.joining("198.51.100.1, 198.51.100.2")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "..first"), 0o755); err != nil {
		t.Fatal(err)
	}
	links := map[string]string{"..data": "..first"}
	for name, text := range map[string]string{"weft.yaml": config, "gossip.key": gossipKey} {
		if err := os.WriteFile(filepath.Join(dir, "..first", name), []byte(text), p.DefaultMode); err != nil {
			t.Fatal(err)
		}
		links[name] = filepath.Join("..data", name)
	}
	for name, to := range links {
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil && !errors.Is(err, os.ErrExist) {
			t.Fatal(err)
		}
	}
	return dir
}

// state asks for a container's, and its exit status.
func (k *kubelet) state(ctx context.Context, id string) (state, code uint64, err error) {
	answer, err := k.call(ctx, "ContainerStatus", message(nil).text(1, id))
	status := answer.first(1).inner
	return status.first(3).number, status.first(7).number, err
}

// log is what a container has written.
func (k *kubelet) log(container string) string {
	text, err := os.ReadFile(filepath.Join(k.n.path("cri.state"), container+".log"))
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// probe is nil where the answer to a probe is that all is well.
func (k *kubelet) probe(ctx context.Context, p probe) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s:%d%s", p.HTTPGet.Host, p.HTTPGet.Port, p.HTTPGet.Path), nil)
	if err != nil {
		return err
	}
	return k.n.Do(func() error {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", r.URL.Host)
		if err != nil {
			return err
		}
		defer conn.Close()
		if err := r.Write(conn); err != nil {
			return err
		}
		answer, err := http.ReadResponse(bufio.NewReader(conn), r)
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			return fmt.Errorf("%s answers %s", p.HTTPGet.Path, answer.Status)
		}
		return nil
	})
}

// awaitReady waits for the container's probes.
func (k *kubelet) awaitReady() {
	k.n.t.Helper()
	c := k.pod.Containers[0]
	for _, p := range []probe{c.LivenessProbe, c.ReadinessProbe} {
		k.n.eventually("weftd to answer "+p.HTTPGet.Path, func(ctx context.Context) error { return k.probe(ctx, p) })
	}
}
