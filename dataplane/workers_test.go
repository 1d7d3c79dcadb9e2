package dataplane_test

import (
	"context"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/dataplane/dataplanetest"
	"github.com/weft-net/weft/dataplane/offload"
)

// Three workers run at once, while the configuration is applied again and again: the
// account and a peer's counters are those of all of them.
func TestWorkersAddUp(t *testing.T) {
	const workers, rounds = 3, 40
	network := dataplanetest.NewNetwork()
	far := newNode(t, network, 2, 1)
	n := features{can: offload.All, rco: true}.makeNode(t, dataplanetest.NewNetwork(), 1, 2) // for its configuration
	var devices []*dataplanetest.Device

	var pairs []dataplane.Pair
	for i := range uint16(workers) {
		devices = append(devices, dataplanetest.NewDevice(t))
		wire := network.Listen(t, netip.AddrPortFrom(n.endpoint.Addr(), n.endpoint.Port()+i))
		pairs = append(pairs, dataplane.Pair{Queue: devices[i], Wire: strict{wire, n}})
	}
	n.Engine = dataplane.New(pairs, offload.All)
	if err := n.Apply(n.config); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	}()

	var want dataplane.PeerStats
	var lost uint64
	for round := range rounds {
		if err := n.Apply(n.config); err != nil {
			t.Fatal(err)
		}
		for i, d := range devices {
			dice := randomDice(uint64(round*workers+i), 1000)
			for _, p := range dice.packets(5, 1, 2) {
				arrive, dropped, _ := n.judge(p, 2)
				lost += uint64(dropped)
				want.TxPackets += uint64(len(arrive))
				for _, a := range arrive {
					want.TxBytes += uint64(len(a))
				}
				d.SendSuper(p)
			}
			back := udpPacket(t, pod(2, 1), pod(1, 1), 0, 100)
			network.Inject(far.endpoint, netip.AddrPortFrom(n.endpoint.Addr(), n.endpoint.Port()+uint16(i)), 0, back)
		}
	}
	want.RxPackets, want.RxBytes = workers*rounds, workers*rounds*100
	got := n.settled(t, want.TxPackets+lost, want.RxPackets)
	if diff := cmp.Diff(want, got.Peers[far.endpoint.String()]); diff != "" {
		t.Errorf("traffic with the peer (-want +got):\n%s", diff)
	}
	if got.Egress.Forwarded != want.TxPackets || got.Ingress.Forwarded != want.RxPackets {
		t.Errorf("forwarded %d and %d, want %d and %d", got.Egress.Forwarded, got.Ingress.Forwarded, want.TxPackets, want.RxPackets)
	}
	far.settled(t, 0, want.TxPackets)
}
