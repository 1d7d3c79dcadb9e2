//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"path/filepath"

	"github.com/weft-net/weft/bench/topo"
)

// A plugin attaches pods to the server's node.
type plugin struct {
	path   string // of its binary
	dir    string // where it finds others
	config []byte // JSON
}

// pluginFolder is where the reference plugins are, in the folder of the release binaries.
const pluginFolder = "cni"

// weftPlugin is weft-cni, beside a weftd.
func weftPlugin(name, about, wiring string) subject {
	s := weftSubject(name, about, "udp", nil)
	s.binaries = append(s.binaries, "weft-cni")
	join := s.join
	s.join = func(ctx context.Context, n *network) error {
		if err := join(ctx, n); err != nil {
			return err
		}
		return n.use("weft-cni", n.bin, map[string]any{
			"type": "weft-cni", "wiring": wiring, "socket": n.socket(n.server), "dataDir": n.path("attachments"),
		})
	}
	return s
}

// referencePlugin is `bridge` with `host-local`, as flannel has its pods wired.
func referencePlugin() subject {
	s := rawSubject("bridge+host-local", "the reference plugins of the CNI project, as flannel uses them", ethernetMTU)
	s.binaries = []string{filepath.Join(pluginFolder, "bridge"), filepath.Join(pluginFolder, "host-local")}
	join := s.join
	s.join = func(ctx context.Context, n *network) error {
		if err := join(ctx, n); err != nil {
			return err
		}
		return n.use("bridge", filepath.Join(n.bin, pluginFolder), map[string]any{
			"type": "bridge", "bridge": "cni0", "isDefaultGateway": true, "hairpinMode": true, "ipMasq": false, "mtu": n.mtu,
			"ipam": map[string]any{"type": "host-local", "dataDir": n.path("host-local"),
				"ranges": [][]map[string]any{{{"subnet": n.server.cidrs[0].String()}}}},
		})
	}
	return s
}

func lastOctet(block netip.Prefix, octet byte) string {
	a := block.Addr().As4()
	a[3] = octet
	return netip.AddrFrom4(a).String()
}

// use makes a plugin that of the server's node.
func (n *network) use(name, dir string, config map[string]any) error {
	config["cniVersion"], config["name"] = "1.0.0", "bench"
	data, err := json.Marshal(config)
	n.plugin = plugin{path: filepath.Join(dir, name), dir: dir, config: data}
	return err
}

// podMTU is what weftd leaves for pods on Ethernet.
const podMTU = 1444

// localSubjects are ways to join two pods of one node.
func localSubjects() []subject {
	return []subject{
		plainPods("veth", "no overlay: a veth and a route for each pod of a node", ethernetMTU),
		plainPods("veth-1444", "the same with the MTU that weft gives to pods", podMTU),
		weftPods("weft-pod", "pods that weft made, routed"),
		weftPods("weft-pod-bridge", "pods that weft made, on a bridge", "--bridge", "cni0"),
	}
}

func plainPods(name, about string, mtu int) subject {
	s := rawSubject(name, about, mtu)
	join := s.join
	s.join = func(ctx context.Context, n *network) error {
		if err := join(ctx, n); err != nil {
			return err
		}
		second, err := n.server.Pod("second", netip.MustParseAddr(lastOctet(n.server.cidrs[0], 11)))
		if err != nil {
			return err
		}
		n.client = &site{Node: n.server.Node, pod: second, cidrs: n.server.cidrs}
		return n.setPodMTU(mtu)
	}
	return s
}

// weftPods has weft make both pods.
func weftPods(name, about string, flags ...string) subject {
	s := weftSubject(name, about, "udp", nil)
	join := s.join
	s.join = func(ctx context.Context, n *network) (err error) {
		if err := join(ctx, n); err != nil {
			return err
		}
		local := &site{Node: n.server.Node, cidrs: n.server.cidrs}
		if local.pod, err = n.weftPod(ctx, "first", flags); err != nil {
			return err
		}
		n.client = local
		n.server.pod, err = n.weftPod(ctx, "second", flags)
		return err
	}
	return s
}

// weftPod makes a pod on the server's node by `weft pod add`.
func (n *network) weftPod(ctx context.Context, name string, flags []string) (*topo.Pod, error) {
	ns, err := n.server.Sandbox(name)
	if err != nil {
		return nil, err
	}
	args := append([]string{filepath.Join(n.bin, "weft"), "--socket", n.socket(n.server), "pod", "add", name,
		"--netns", ns.Path(), "--data-dir", n.path("attachments"), "--json"}, flags...)
	out, err := n.server.Run(ctx, args...)
	if err != nil {
		return nil, err
	}
	var made struct{ Addresses []netip.Addr }
	if err := json.Unmarshal([]byte(out), &made); err != nil || len(made.Addresses) != 1 {
		return nil, fmt.Errorf("weft pod add: %q: %w", out, err)
	}
	return &topo.Pod{Namespace: ns, Addr: made.Addresses[0]}, nil
}
