//go:build netns && daemonset

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"
)

const manifestPath = "../../cmd/weftd/kubernetes/weft.yaml"

// manifest is what the Kubernetes manifest has for a kubelet.
type manifest struct {
	config string // weft.yaml, of the ConfigMap
	pod    podSpec
}

// podSpec is one of Kubernetes (staging/src/k8s.io/api/core/v1/types.go), as far as the manifest uses it: a key that is
// not here is an error. What only the scheduler and the cluster's DNS look at is any.
type podSpec struct {
	HostNetwork                                                 bool
	InitContainers, Containers                                  []containerSpec
	Volumes                                                     []volume
	DNSPolicy, EnableServiceLinks, AutomountServiceAccountToken any
	PriorityClassName, NodeSelector, Tolerations                any
}

type containerSpec struct {
	Name, Image   string
	Command, Args []string
	Env           []struct {
		Name, Value string
		ValueFrom   struct{ FieldRef struct{ FieldPath string } }
	}
	SecurityContext               securityContext
	LivenessProbe, ReadinessProbe probe
	VolumeMounts                  []struct {
		Name, MountPath string
		ReadOnly        bool
	}
	Resources any // requests only, which set weights
}

type securityContext struct {
	Privileged, ReadOnlyRootFilesystem bool
	AllowPrivilegeEscalation           *bool
	Capabilities                       struct{ Add, Drop []string }
	SeccompProfile                     *struct{ Type string }
}

type probe struct {
	HTTPGet struct {
		Host, Path string
		Port       int
	}
	InitialDelaySeconds, PeriodSeconds int
}

// volume is of one of the two kinds that the manifest has.
type volume struct {
	Name      string
	HostPath  *struct{ Path, Type string }
	Projected *projected
}

type projected struct {
	DefaultMode os.FileMode
	Sources     []any // ConfigMap and Secret
}

func readManifest(t *testing.T) manifest {
	t.Helper()
	text, err := os.ReadFile(manifestPath)
	if err != nil {
		t.Fatal(err)
	}
	var m manifest
	for document := range strings.SplitSeq(string(text), "\n---\n") {
		var object struct {
			Kind string
			Data map[string]string
			Spec struct{ Template struct{ Spec yaml.Node } }
		}
		if err := yaml.Unmarshal([]byte(document), &object); err != nil {
			t.Fatal(err)
		}
		switch object.Kind {
		case "ConfigMap":
			m.config = object.Data["weft.yaml"]
		case "DaemonSet":
			if err := strictly(&object.Spec.Template.Spec, &m.pod); err != nil {
				t.Fatalf("%s: the DaemonSet: %v", manifestPath, err)
			}
		}
	}
	if m.config == "" || len(m.pod.Containers) != 1 || !m.pod.HostNetwork {
		t.Fatalf("%s has no weft.yaml, or no DaemonSet of one container in the host's network", manifestPath)
	}
	return m
}

// strictly decodes YAML as Kubernetes does, by way of JSON.
func strictly(node *yaml.Node, into any) error {
	var tree any
	if err := node.Decode(&tree); err != nil {
		return err
	}
	text, err := json.Marshal(tree)
	if err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	return d.Decode(into)
}

// joining is the configuration with other nodes to join, which whoever applies the manifest has to set.
func (m manifest) joining(addrs string) (string, error) {
	before, after, ok := strings.Cut(m.config, "join: [")
	_, rest, closed := strings.Cut(after, "]")
	if !ok || !closed {
		return "", fmt.Errorf("the ConfigMap's weft.yaml has no join: %q", m.config)
	}
	return before + "join: [" + addrs + "]" + rest + "\nmode: udp\n", nil
}
