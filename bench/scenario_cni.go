//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/weft-net/weft/bench/report"
	"github.com/weft-net/weft/bench/topo"
)

const (
	cniPods      = 40  // attached one after the other
	burstPods    = 200 // attached as fast as burstWorkers can
	burstWorkers = 16
)

// cniScenario is how long a plugin takes for a pod, process and all.
func cniScenario() scenario {
	return scenario{
		name: "cni", about: fmt.Sprintf("ADD and DEL of a CNI plugin, %d pods one after the other", cniPods), mtu: ethernetMTU,
		takes:    5 * time.Second,
		subjects: cniSubjects(),
		measure: func(ctx context.Context, n *network) ([]report.Sample, error) {
			pods, err := n.sandboxes(ctx, cniPods)
			if err != nil {
				return nil, err
			}
			add, err := n.each(ctx, "ADD", pods, 1)
			if err != nil {
				return nil, err
			}
			del, err := n.each(ctx, "DEL", pods, 1)
			return []report.Sample{
				{Metric: "add", Unit: "ms", Value: milliseconds(add) / cniPods},
				{Metric: "del", Unit: "ms", Value: milliseconds(del) / cniPods},
			}, err
		},
	}
}

// burstScenario is a node whose pods all start at once.
func burstScenario() scenario {
	return scenario{
		name: "cni-burst", about: fmt.Sprintf("%d pods added and deleted by a CNI plugin, %d at a time", burstPods, burstWorkers), mtu: ethernetMTU,
		takes:    20 * time.Second,
		subjects: cniSubjects(),
		measure: func(ctx context.Context, n *network) ([]report.Sample, error) {
			pods, err := n.sandboxes(ctx, burstPods)
			if err != nil {
				return nil, err
			}
			add, err := n.each(ctx, "ADD", pods, burstWorkers)
			if err != nil {
				return nil, err
			}
			del, err := n.each(ctx, "DEL", pods, burstWorkers)
			return []report.Sample{
				{Metric: "added", Unit: "pods/s", Value: burstPods / add.Seconds()},
				{Metric: "deleted", Unit: "pods/s", Value: burstPods / del.Seconds()},
			}, err
		},
	}
}

func cniSubjects() []subject {
	return []subject{
		referencePlugin(),
		weftPlugin("weft-cni", "weft's plugin, a route for each pod", "routed"),
		weftPlugin("weft-cni-bridge", "weft's plugin, pods on a bridge", "bridge"),
	}
}

// onNode makes a scenario of one between two pods of one node.
func onNode(s scenario) scenario {
	s.name += "-node"
	s.about += ", between pods of one node"
	s.subjects = localSubjects()
	return s
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// sandboxes are namespaces for so many pods, on a node that has no other.
func (n *network) sandboxes(ctx context.Context, count int) (pods []*topo.Namespace, err error) {
	if _, err := n.server.pod.Run(ctx, "ip", "link", "del", "eth0"); err != nil {
		return nil, err
	}
	for i := range count {
		ns, err := n.server.Sandbox(fmt.Sprintf("c%d", i))
		if err != nil {
			return nil, err
		}
		pods = append(pods, ns)
	}
	return pods, nil
}

// each runs the plugin for every pod, so many at a time, and returns how long all took.
func (n *network) each(ctx context.Context, verb string, pods []*topo.Namespace, workers int) (time.Duration, error) {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(workers)
	began := time.Now()
	for i, pod := range pods {
		group.Go(func() error { return n.call(ctx, verb, fmt.Sprintf("pod%d", i), pod) })
	}
	err := group.Wait()
	return time.Since(began), err
}

// call runs the plugin on the server's node. The process is started from within the node, so that nothing else is measured.
func (n *network) call(ctx context.Context, verb, id string, pod *topo.Namespace) error {
	return n.server.Do(func() error {
		cmd := exec.CommandContext(ctx, n.plugin.path)
		cmd.Env = []string{
			"PATH=" + n.plugin.dir, "CNI_COMMAND=" + verb, "CNI_CONTAINERID=" + id, "CNI_IFNAME=eth0",
			"CNI_NETNS=" + pod.Path(), "CNI_PATH=" + n.plugin.dir,
		}
		cmd.Stdin = bytes.NewReader(n.plugin.config)
		out, err := cmd.Output() // where it says why, too
		if err != nil {
			return fmt.Errorf("%s of %s: %w", verb, id, errors.Join(err, errors.New(string(out))))
		}
		return nil
	})
}
