//go:build netns && daemonset

package e2e

import (
	"bytes"
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"
)

const manifestPath = "../../cmd/weftd/kubernetes/weft.yaml"

// joinKey is what whoever applies the manifest changes in its weft.yaml. Immutable.
var joinKey = regexp.MustCompile(`(?m)^join: .*$`)

// manifest is what the Kubernetes manifest has for a kubelet.
type manifest struct {
	config string // weft.yaml, of the ConfigMap
	pod    podSpec
}

// podSpec is one of Kubernetes (staging/src/k8s.io/api/core/v1/types.go), with those keys only that the manifest has. What is
// any makes no difference to containers: the scheduler, DNS, and a cluster that has services look at it.
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
		Name      string
		ValueFrom struct{ FieldRef struct{ FieldPath string } }
	}
	SecurityContext               securityContext
	LivenessProbe, ReadinessProbe probe
	VolumeMounts                  []struct {
		Name, MountPath string
		ReadOnly        bool
	}
	Resources struct{ Requests any } // a share of what is scarce
}

type securityContext struct {
	Privileged, ReadOnlyRootFilesystem bool
	AllowPrivilegeEscalation           *bool
	Capabilities                       struct{ Add, Drop []string }
	SeccompProfile                     struct{ Type string }
}

type probe struct {
	HTTPGet struct {
		Host, Path string
		Port       int
	}
	InitialDelaySeconds, PeriodSeconds int // which a test does not wait for
}

// volume is of the host's or projected.
type volume struct {
	Name      string
	HostPath  struct{ Path, Type string }
	Projected *struct {
		DefaultMode os.FileMode
		Sources     []struct{ ConfigMap, Secret struct{ Name string } }
	}
}

// readManifest reads the manifest as it is for a cluster whose nodes can join at addrs.
func readManifest(t *testing.T, addrs string) manifest {
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
			m.config = joinKey.ReplaceAllString(object.Data["weft.yaml"], "join: ["+addrs+"]")
		case "DaemonSet":
			if err := decode(&object.Spec.Template.Spec, &m.pod); err != nil {
				t.Fatalf("%s: the DaemonSet's pod: %v", manifestPath, err)
			}
		}
	}
	if !strings.Contains(m.config, addrs) || len(m.pod.Containers) != 1 || !m.pod.HostNetwork {
		t.Fatalf("%s has no join, or no DaemonSet of one container in the host's network", manifestPath)
	}
	return m
}

// decode takes YAML as Kubernetes does, by way of JSON. A key that into does not have is an error.
func decode(node *yaml.Node, into any) error {
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
