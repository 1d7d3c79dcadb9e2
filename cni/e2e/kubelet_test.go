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

const (
	// kubeletStart is containerdStart, and gives the node folders of its own where plugins and their configuration are by
	// default. Arguments: containerdStart's.
	kubeletStart = `set -e
mount --make-rprivate /
for dir in etc opt; do
	mkdir "$2/$dir" "$2/$dir.work"
	mount -t overlay -o "lowerdir=/$dir,upperdir=$2/$dir,workdir=$2/$dir.work" "$dir" "/$dir"
done
mkdir -p /etc/cni/net.d /opt/cni/bin
mount --bind "${2%.lib}.conf" /etc/cni/net.d
mount --bind "${2%.lib}.bin" /opt/cni/bin
` + containerdStart

	// terminationGrace is how many seconds a container has to end: terminationGracePeriodSeconds by default.
	terminationGrace = 30

	exited = 2 // CONTAINER_EXITED of ContainerState in api.proto
)

// kubelet runs the manifest's pod on a node, as a kubelet does (pkg/kubelet/kuberuntime of Kubernetes), by the node's containerd.
type kubelet struct {
	*containerd
	manifest
	images    map[string]string // by the manifest's names, containerd's
	podID     string            // of what run has started, its sandbox
	container string            // and weftd's container
}

func newKubelet(t *testing.T, top *topo.Topology, number int, m manifest) *kubelet {
	t.Helper()
	n := newHost(t, top, number, debianCNI)
	k := &kubelet{containerd: n.newContainerd(containerd16, containerdConfig, kubeletStart), manifest: m}
	t.Cleanup(func() {
		if log := k.log(m.pod.Containers[0].Name); t.Failed() {
			t.Logf("log of %s's weftd:\n%s", n, log)
		}
	})
	k.launch()
	k.importImage(filepath.Join(top.Dir(), "image.tar"))
	paths, err := filepath.Glob(filepath.Join(binaries, "package", "*.oci.tar"))
	if err != nil || len(paths) != 1 {
		t.Fatalf("the image is one of %q, %v: run `make package`", paths, err)
	}
	k.importImage(paths[0])
	k.images = map[string]string{"weft:latest": k.imported(), "docker.io/library/busybox:1.37": imageName}
	return k
}

// imported is the name of weft's image, which is for both architectures.
func (k *kubelet) imported() string {
	t := k.n.t
	t.Helper()
	list := k.ctr("image", "list")
	for line := range strings.Lines(list) {
		if name, _, _ := strings.Cut(line, " "); strings.HasPrefix(name, "docker.io/library/weft:") && strings.Contains(line, "linux/amd64,linux/arm64") {
			return name
		}
	}
	t.Fatalf("there is no image of weft's for amd64 and arm64:\n%s", list)
	return ""
}

// run starts the manifest's pod: its init containers one after the other, then its container.
func (k *kubelet) run() {
	t := k.n.t
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	answer, err := k.call(ctx, "RunPodSandbox", message(nil).embed(1, k.podConfig()))
	if err != nil {
		t.Fatal(err)
	}
	k.podID = string(answer.first(1).inner)
	for _, c := range k.pod.InitContainers {
		id := k.startContainer(ctx, c)
		k.n.eventually("init container "+c.Name+" to end", func(ctx context.Context) error {
			answer, err := k.call(ctx, "ContainerStatus", message(nil).text(1, id))
			status := answer.first(1).inner
			if err == nil && status.first(3).number != exited {
				err = errors.New("it runs")
			}
			if code := status.first(7).number; err == nil && code != 0 {
				t.Fatalf("init container %s: exit status %d:\n%s", c.Name, code, k.log(c.Name))
			}
			return err
		})
	}
	k.container = k.startContainer(ctx, k.pod.Containers[0])
}

// startContainer starts a container in the pod, and returns its ID.
func (k *kubelet) startContainer(ctx context.Context, c containerSpec) string {
	t := k.n.t
	t.Helper()
	answer, err := k.call(ctx, "CreateContainer", message(nil).text(1, k.podID).embed(2, k.containerConfig(c)).embed(3, k.podConfig()))
	if err != nil {
		t.Fatal(err)
	}
	id := string(answer.first(1).inner)
	if _, err := k.call(ctx, "StartContainer", message(nil).text(1, id)); err != nil {
		t.Fatal(err)
	}
	return id
}

// remove ends the pod, as its DaemonSet's end and its upgrade do.
func (k *kubelet) remove() {
	t := k.n.t
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, err := k.call(ctx, "StopContainer", message(nil).text(1, k.container).number(2, terminationGrace))
	if err := errors.Join(err, k.removeSandbox(ctx, k.podID)); err != nil {
		t.Fatal(err)
	}
}

// healthy waits for the answers to the container's probes that a kubelet waits for.
func (k *kubelet) healthy() {
	k.n.t.Helper()
	c := k.pod.Containers[0]
	for _, p := range []probe{c.LivenessProbe, c.ReadinessProbe} {
		k.n.eventually("weftd to answer "+p.HTTPGet.Path, func(ctx context.Context) error { return k.probe(ctx, p) })
	}
}

// probe is nil where the answer to a probe is that all is well.
func (k *kubelet) probe(ctx context.Context, p probe) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s:%d%s", p.HTTPGet.Host, p.HTTPGet.Port, p.HTTPGet.Path), nil)
	if err != nil {
		return err
	}
	return k.n.Do(func() error { // http.Transport dials on another thread, out of the namespace
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
			return errors.New(answer.Status)
		}
		return nil
	})
}

// weft runs the image's weft in the container, and returns what it prints.
func (k *kubelet) weft(ctx context.Context, args ...string) (string, error) {
	return k.exec(ctx, k.container, append([]string{"/usr/bin/weft"}, args...)...)
}

// log is what a container of the pod has written.
func (k *kubelet) log(container string) string {
	text, err := os.ReadFile(k.logPath(container))
	if err != nil {
		return err.Error()
	}
	return string(text)
}

func (k *kubelet) logPath(container string) string {
	return filepath.Join(k.n.path("cri.state"), container+".log")
}
