package metrics

import (
	"fmt"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/weft-net/weft/cmd/internal/control"
)

// node is a source that always says the same.
type node struct {
	status    control.Status
	peers     []control.Peer
	drops     control.Drops
	segments  []control.Segment
	internals Internals
}

func (n node) Status() control.Status        { return n.status }
func (n node) Peers() control.PeerList       { return control.PeerList{Peers: n.peers} }
func (n node) Drops() control.Drops          { return n.drops }
func (n node) Segments() control.SegmentList { return control.SegmentList{Segments: n.segments} }
func (n node) Internals() Internals          { return n.internals }

func example() node {
	return node{
		status: control.Status{
			Version: "v1.2.3", Node: control.Node{ID: "aaaa", Name: "node1"}, State: control.StateFenced, Mode: "auto", Tunnel: "udp",
			PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.1.0/24")},
			Allocation: control.Allocation{Waiting: "others are asked", Lost: []control.LostBlock{
				{Pods: make([]control.Pod, 2)}, {Pods: make([]control.Pod, 1)},
			}},
			Underlay: control.Underlay{Interface: "eth0", MTU: 1500}, Tun: control.Tun{MTU: 1444},
			Offload:  control.Offload{Workers: 2, On: []string{"tso", "gso"}, Off: map[string]string{"uso": "the kernel is too old"}},
			Gossip:   control.Gossip{Members: 3, KeyMismatches: 7, Rejected: map[string]uint64{"signature": 5}},
			Warnings: []string{"one", "two"},
		},
		peers: []control.Peer{
			{ID: "bbbb", Name: "node2", State: control.PeerUp, Mode: "udp", MTU: 1444, PathMTU: 1500, DataPath: control.DataWorks, Loss: 0.25,
				RTT: control.Microseconds(1500 * time.Microsecond), Endpoint: netip.MustParseAddrPort("192.0.2.2:8285"),
				Tx: control.Traffic{Packets: 10, Bytes: 1000}, Rx: control.Traffic{Packets: 20, Bytes: 2000}},
			{ID: "cccc", Name: "node2", State: control.PeerDown, DataPath: control.DataFails, Loss: 1},
			{ID: "dddd", Name: "bad \xff \"quoted\"\n", State: control.PeerUp, DataPath: control.DataUnknown, Mode: "direct", MTU: 1500},
			{ID: "static:linux1", Name: "linux1", State: control.PeerUp, Static: true, Mode: "vxlan", MTU: 1450, DataPath: control.DataUnknown},
		},
		drops: control.Drops{
			Egress:   control.Direction{Received: 30, Forwarded: 26, Drops: map[string]uint64{"no-route": 4, "spoofed": 0}},
			Ingress:  control.Direction{Received: 9, Forwarded: 9, Drops: map[string]uint64{"no-route": 0, "spoofed": 0}},
			ICMPSent: 4, Kernel: control.Kernel{SocketOverflow: 11, TunTxDropped: 12, Spoofed: 13},
		},
		segments: []control.Segment{
			{Name: "office", State: control.StateReady, Members: make([]control.SegmentMember, 2), Flooded: 14, FloodLimited: 15, Answered: 16,
				Hosts:      []control.SegmentHost{{Local: true}, {Node: "node2"}, {Node: "node2"}, {}},
				Duplicates: []string{"one"}},
			{Name: "lab", State: control.SegmentBlocked},
		},
		internals: Internals{
			Batches: Batches{
				Reads:     Histogram{Bounds: []float64{1, 2, 4}, Counts: []uint64{3, 2, 1, 1}, Sum: 20},
				SuperRead: 5,
			},
			Bytes: Bytes{Egress: 1000, Ingress: 2000}, Stuck: 1,
			Repairs:   map[string]uint64{"route": 6, "rule": 0},
			Takeovers: map[Takeover]uint64{{"systemd", "ok"}: 2}, TakeoverGap: 30 * time.Millisecond,
		},
	}
}

// scrape asks the handler for what Prometheus would see.
func scrape(t *testing.T, n node) (text string, families map[string]*dto.MetricFamily) {
	t.Helper()
	w := httptest.NewRecorder()
	Handler(n).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != 200 {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(w.Body.String()))
	if err != nil {
		t.Fatal(err)
	}
	return w.Body.String(), families
}

func TestSeries(t *testing.T) {
	text, _ := scrape(t, example())
	have := make(map[string]bool)
	for line := range strings.Lines(text) {
		have[strings.TrimSuffix(line, "\n")] = true
	}
	for _, want := range []string{
		`weft_state{state="fenced"} 1`, `weft_state{state="ready"} 0`, `weft_warnings 2`,
		`weft_node_info{interface="eth0",mode="auto",node="node1",node_id="aaaa",tunnel="udp"} 1`,
		`weft_underlay_mtu_bytes 1500`, `weft_tun_mtu_bytes 1444`, `weft_workers 2`, `weft_workers_stuck 1`,
		`weft_offload_enabled{feature="tso"} 1`, `weft_offload_enabled{feature="uso"} 0`,
		`weft_blocks{state="held"} 1`, `weft_blocks{state="lost"} 2`, `weft_blocks{state="tentative"} 0`, `weft_lost_block_pods 3`, `weft_block_missing 1`,
		`weft_settled 0`, `weft_gossip_members 3`, `weft_gossip_key_mismatches_total 7`, `weft_gossip_rejected_records_total{reason="signature"} 5`,
		`weft_repairs_total{kind="route"} 6`, `weft_takeovers_total{from="systemd",result="ok"} 2`, `weft_takeover_gap_seconds 0.03`,

		`weft_received_packets_total{direction="egress"} 30`, `weft_forwarded_packets_total{direction="ingress"} 9`,
		`weft_drops_total{direction="egress",reason="no-route"} 4`, `weft_drops_total{direction="ingress",reason="spoofed"} 0`,
		`weft_forwarded_bytes_total{direction="ingress"} 2000`, `weft_icmp_errors_sent_total 4`, `weft_kernel_drops_total{cause="tun-queue-full"} 12`,
		`weft_tun_read_packets_bucket{le="2"} 5`, `weft_tun_read_packets_bucket{le="+Inf"} 7`, `weft_tun_read_packets_sum 20`, `weft_tun_read_packets_count 7`,
		`weft_tun_superpackets_total{direction="egress"} 5`,

		`weft_peers{state="up"} 3`, `weft_peers{state="left"} 0`, `weft_peers_data_path{data_path="works"} 1`, `weft_peers_data_path{data_path="unknown"} 1`,
		`weft_peers_mode{mode="none"} 1`, `weft_peers_without_series 0`,
		`weft_peer_info{data_path="works",endpoint="192.0.2.2:8285",mode="udp",peer="node2",peer_id="bbbb",state="up"} 1`,
		`weft_peer_up{peer="node2",peer_id="bbbb"} 1`, `weft_peer_up{peer="node2",peer_id="cccc"} 0`,
		`weft_peer_reachable{peer="node2",peer_id="bbbb"} 1`, `weft_peer_reachable{peer="node2",peer_id="cccc"} 0`,
		`weft_peer_rtt_seconds{peer="node2",peer_id="bbbb"} 0.0015`, `weft_peer_loss_ratio{peer="node2",peer_id="bbbb"} 0.25`,
		`weft_peer_path_mtu_bytes{peer="node2",peer_id="bbbb"} 1500`, `weft_peer_mtu_bytes{peer="linux1",peer_id="static:linux1"} 1450`,
		`weft_peer_transmit_packets_total{peer="node2",peer_id="bbbb"} 10`, `weft_peer_receive_bytes_total{peer="node2",peer_id="bbbb"} 2000`,
		`weft_segments{state="ready"} 1`, `weft_segments{state="blocked"} 1`, `weft_segments{state="impaired"} 0`,
		`weft_segment_members{segment="office"} 2`, `weft_segment_members{segment="lab"} 0`, `weft_segment_duplicates{segment="office"} 1`,
		`weft_segment_hosts{segment="office",where="local"} 1`, `weft_segment_hosts{segment="office",where="remote"} 2`, `weft_segment_hosts{segment="office",where="unknown"} 1`,
		`weft_segment_flooded_frames_total{segment="office"} 14`, `weft_segment_flood_limited_frames_total{segment="office"} 15`, `weft_segment_answered_total{segment="office"} 16`,
		`weft_peer_up{peer="bad ` + "\uFFFD" + ` \"quoted\"\n",peer_id="dddd"} 1`,
	} {
		if !have[want] {
			t.Errorf("no series %s", want)
		}
	}
	for _, lacking := range []string{"weft_peer_reachable{peer=\"linux1\"", `weft_peer_rtt_seconds{peer="node2",peer_id="cccc"`, `weft_peer_path_mtu_bytes{peer="linux1"`} {
		if strings.Contains(text, lacking) {
			t.Errorf("what is not known has a series: %s", lacking)
		}
	}
	for _, beside := range []string{"go_goroutines ", "process_open_fds ", "process_resident_memory_bytes "} {
		if !strings.Contains(text, "\n"+beside) {
			t.Errorf("no %sof the runtime", beside)
		}
	}
}

// Names and help texts are as Prometheus' own linter wants them.
func TestLint(t *testing.T) {
	text, _ := scrape(t, example())
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "weft_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
}

// A cluster of any size has a bounded number of series, and its sums count all of it.
func TestBoundedCardinality(t *testing.T) {
	n := example()
	n.peers = nil
	for i := range 3 * maxPeers {
		n.peers = append(n.peers, control.Peer{ID: fmt.Sprintf("%08d", 7919*i%100000), Name: "node", State: control.PeerUp, DataPath: control.DataWorks, Mode: "udp"})
	}
	_, families := scrape(t, n)
	if got := len(families["weft_peer_up"].Metric); got != maxPeers {
		t.Errorf("%d peers have series of their own, want %d", got, maxPeers)
	}
	for name, f := range families {
		if len(f.Metric) > maxPeers {
			t.Errorf("%s has %d series", name, len(f.Metric))
		}
	}
	for _, m := range families["weft_peers"].Metric {
		if m.Label[0].GetValue() == "up" && m.Gauge.GetValue() != 3*maxPeers {
			t.Errorf("weft_peers counts %v, want all", m.Gauge.GetValue())
		}
	}
	if got := families["weft_peers_without_series"].Metric[0].Gauge.GetValue(); got != 2*maxPeers {
		t.Errorf("weft_peers_without_series is %v, want %d", got, 2*maxPeers)
	}
}
