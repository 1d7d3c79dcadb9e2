//go:build netns && daemonset

package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// Of NamespaceMode in api.proto.
const (
	ofContainer = 1
	ofNode      = 2
)

// What a container that is not privileged cannot see, or not write (pkg/securitycontext/util.go of Kubernetes). Immutable.
var (
	maskedPaths = []string{"/proc/asound", "/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
		"/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware"}
	readonlyPaths = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
)

// hostNetwork is a NamespaceOption.
func hostNetwork() message { return message(nil).number(1, ofNode).number(2, ofContainer) }

// podConfig makes a PodSandboxConfig.
func (k *kubelet) podConfig() message {
	context := message(nil).embed(1, hostNetwork())
	if slices.ContainsFunc(k.pod.InitContainers, func(c containerSpec) bool { return c.SecurityContext.Privileged }) {
		context = context.number(6, 1)
	}
	return k.sandbox("weft", nil).embed(8, message(nil).embed(2, context)) // what is twice in a message is merged
}

// containerConfig makes a ContainerConfig, and what the container's volumes are of.
func (k *kubelet) containerConfig(c containerSpec) message {
	t := k.n.t
	t.Helper()
	image, ok := k.images[c.Image]
	if !ok {
		t.Fatalf("image %s is not known here", c.Image)
	}
	config := message(nil).embed(1, message(nil).text(1, c.Name)).embed(2, message(nil).text(1, image)).
		text(3, c.Command...).text(4, c.Args...).text(11, filepath.Base(k.logPath(c.Name)))
	for _, e := range c.Env {
		if e.ValueFrom.FieldRef.FieldPath != "spec.nodeName" {
			t.Fatalf("variable %s: %+v is not known here", e.Name, e.ValueFrom)
		}
		config = config.embed(6, message(nil).text(1, e.Name).text(2, k.n.String()))
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

// message makes a LinuxContainerSecurityContext.
func (s securityContext) message() message {
	m := message(nil).embed(3, hostNetwork())
	if s.Privileged {
		return m.number(2, 1)
	}
	m = m.embed(1, message(nil).text(1, s.Capabilities.Add...).text(2, s.Capabilities.Drop...))
	m = m.text(13, maskedPaths...).text(14, readonlyPaths...)
	if s.ReadOnlyRootFilesystem {
		m = m.number(7, 1)
	}
	if s.AllowPrivilegeEscalation != nil && !*s.AllowPrivilegeEscalation {
		m = m.number(11, 1)
	}
	if s.SeccompProfile.Type == "RuntimeDefault" {
		m = m.embed(15, nil)
	}
	return m
}

// volume makes a volume, and returns where it is on the node.
func (k *kubelet) volume(name string) string {
	t := k.n.t
	t.Helper()
	i := slices.IndexFunc(k.pod.Volumes, func(v volume) bool { return v.Name == name })
	if i < 0 {
		t.Fatalf("there is no volume %s", name)
	}
	v := k.pod.Volumes[i]
	switch {
	case v.Projected != nil:
		return k.project(v.Projected.DefaultMode)
	case v.HostPath.Type == "DirectoryOrCreate":
		root := fmt.Sprintf("/proc/%d/root", k.process.PID())
		if err := os.MkdirAll(filepath.Join(root, v.HostPath.Path), 0o755); err != nil {
			t.Fatal(err)
		}
	case v.HostPath.Type != "CharDevice":
		t.Fatalf("volume %s: hostPath of type %q is not known here", name, v.HostPath.Type)
	}
	return v.HostPath.Path
}

// project writes what the projected volume has of the ConfigMap and the Secret, as links into a folder that a kubelet
// replaces as a whole (pkg/volume/util/atomic_writer.go of Kubernetes).
func (k *kubelet) project(mode os.FileMode) string {
	t := k.n.t
	t.Helper()
	const data, version = "..data", "..1"
	dir := k.n.path("config")
	if _, err := os.Stat(dir); err == nil {
		return dir
	}
	err := errors.Join(os.MkdirAll(filepath.Join(dir, version), 0o755), os.Symlink(version, filepath.Join(dir, data)))
	for name, text := range map[string]string{"weft.yaml": k.config, "gossip.key": gossipKey} {
		err = errors.Join(err, os.WriteFile(filepath.Join(dir, version, name), []byte(text), mode), os.Symlink(filepath.Join(data, name), filepath.Join(dir, name)))
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}
