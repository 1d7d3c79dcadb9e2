//go:build netns

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/weft-net/weft/bench/topo"
	"github.com/weft-net/weft/cmd/internal/control"
)

// streams are iperf3 between two pods, for as long as the test wants.
type streams struct {
	name   string
	client *topo.Process
}

// startStreams runs a TCP transfer of two streams, both ways at once, that is to
// last for the given time.
func (c *cluster) startStreams(from, to *topo.Pod, port int, lasts time.Duration, flags ...string) streams {
	c.t.Helper()
	number := strconv.Itoa(port)
	server, err := to.Start("iperf3", "-s", "-1", "-p", number)
	if err != nil {
		c.t.Fatal(err)
	}
	c.eventually("iperf3 to listen", func(ctx context.Context) error {
		_, err := to.Run(ctx, "sh", "-c", "ss -Hltn sport = :"+number+" | grep -q .")
		return err
	})
	_ = server
	args := append([]string{"iperf3", "-c", to.Addr.String(), "-p", number, "-t", strconv.Itoa(int(lasts.Seconds())), "-J", "--bidir", "-b", "20M"}, flags...)
	client, err := from.Start(args...)
	if err != nil {
		c.t.Fatal(err)
	}
	return streams{fmt.Sprintf("%s to %s", from, to), client}
}

// carried is what iperf3 says of one second in one direction.
type carried struct {
	Bytes float64 `json:"bytes"`
}

// finish waits for the end, and wants every second of both directions to have carried
// something, but for so many.
func (x *streams) finish(t *testing.T, gaps int) {
	t.Helper()
	if err := x.client.Wait(); err != nil {
		log, _ := x.client.Log()
		t.Errorf("%s: iperf3: %v\n%s", x.name, err, log)
		return
	}
	log, err := x.client.Log()
	if err != nil {
		t.Fatal(err)
	}
	var report struct {
		Intervals []struct {
			There carried `json:"sum"`
			Back  carried `json:"sum_bidir_reverse"`
		} `json:"intervals"`
		Error string `json:"error"`
	}
	if err := json.Unmarshal([]byte(log), &report); err != nil || report.Error != "" || len(report.Intervals) < 2 {
		t.Fatalf("%s: %v %s, %d intervals", x.name, err, report.Error, len(report.Intervals))
	}
	silent := 0
	for _, i := range report.Intervals {
		if i.There.Bytes == 0 || i.Back.Bytes == 0 {
			silent++
		}
	}
	t.Logf("%s: %d of %d seconds without a byte", x.name, silent, len(report.Intervals))
	if silent > gaps {
		t.Errorf("%s: %d of %d seconds without a byte, want %d at the most", x.name, silent, len(report.Intervals), gaps)
	}
}

// uses waits until m sends to other by the given mode, proven by probes.
func (m *member) uses(other *member, mode string) {
	m.c.t.Helper()
	m.c.eventually(fmt.Sprintf("%s to send to %s by %s", m, other, mode), func(ctx context.Context) error {
		p, err := m.peer(ctx, other)
		if err == nil && (p.Mode != mode || p.DataPath != control.DataWorks) {
			err = fmt.Errorf("it is %q (%s), data path %s", p.Mode, p.Why, p.DataPath)
		}
		return err
	})
}

// peer is what m says of other.
func (m *member) peer(ctx context.Context, other *member) (control.Peer, error) {
	peers, err := m.client.Peers(ctx)
	if err != nil {
		return control.Peer{}, err
	}
	return peers.Find(other.String())
}

// A running cluster of three changes from plain UDP to VXLAN, with another VNI, another
// port and a smaller MTU, node by node, while TCP runs between all of them. No
// connection breaks.
func TestMigration(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	c.startAll()
	var pods []*topo.Pod
	for _, m := range c.members {
		pods = append(pods, m.pod(10))
		for _, other := range c.members {
			if m != other {
				m.uses(other, "udp")
			}
		}
	}
	const lasts = 20 * time.Second
	var transfers []streams
	for i := range pods {
		transfers = append(transfers, c.startStreams(pods[i], pods[(i+1)%3], 5201+i, lasts))
	}
	for i, m := range c.members {
		m.stop()
		m.start("--mode", "vxlan", "--vni", "77", "--vxlan-port", "4790", "--mtu", strconv.Itoa(1440-i))
		for j, other := range c.members {
			if m == other {
				continue
			}
			other.uses(m, "vxlan")
			if j > i {
				m.uses(other, "udp") // as it still asks for
			} else {
				m.uses(other, "vxlan")
			}
		}
	}
	for i := range transfers {
		transfers[i].finish(t, 8)
	}
	for _, m := range c.members {
		drops, err := m.client.Drops(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if drops.Egress.Unaccounted() != 0 || drops.Ingress.Unaccounted() != 0 {
			t.Errorf("%s: packets are not accounted for: %+v", m, drops)
		}
	}
}
