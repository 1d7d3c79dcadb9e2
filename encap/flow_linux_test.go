package encap

import (
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/dataplane/offload"
)

// sourceOf is the port that datagrams of flow leave s from.
func sourceOf(t *testing.T, s, to *Socket, flow uint32) uint16 {
	t.Helper()
	m := message(to, []byte("datagram"))
	m.Flow = flow
	send(t, s, []Message{m})
	got := receive(t, to, 1)
	if len(got) != 1 || got[0].from.Addr() != addrOf(s.port).Addr() {
		t.Fatalf("received %v", got)
	}
	return got[0].from.Port()
}

// Whichever worker sends it.
func TestSourcePortDependsOnTheFlowAlone(t *testing.T) {
	for _, addr := range loopbacks {
		p, to := listen(t, addr, 3, offload.All), listen(t, addr, 1, offload.All).Sockets()[0]
		var ports []uint16
		for flow := range uint32(100) {
			first := sourceOf(t, p.Sockets()[0], to, flow*0x01000193)
			for _, s := range p.Sockets()[1:] {
				if other := sourceOf(t, s, to, flow*0x01000193); other != first {
					t.Errorf("flow %d leaves from ports %d and %d", flow, first, other)
				}
			}
			if !slices.Contains(ports, first) {
				ports = append(ports, first)
			}
		}
		if len(ports) != sourcePorts || slices.Contains(ports, addrOf(p).Port()) {
			t.Errorf("100 flows leave from ports %v; the data port is %d", ports, addrOf(p).Port())
		}
	}
}

// Flows arrive at all workers, and each of them at one.
func TestWorkersShareTheFlows(t *testing.T) {
	const workers, flows, each = 3, 4 * sourcePorts, 20
	for _, addr := range loopbacks {
		to := listen(t, addr, workers, 0)
		worker := map[netip.AddrPort]int{} // who received from where
		for range 4 {
			from := listen(t, addr, 1, 0).Sockets()[0]
			var msgs []Message
			for flow := range uint32(flows) {
				for range each {
					m := message(to.Sockets()[0], []byte("datagram"))
					m.Flow = flow
					msgs = append(msgs, m)
				}
			}
			send(t, from, msgs)
			receiveAll(t, to, len(msgs), worker)
		}
		busy := map[int]bool{}
		for _, i := range worker {
			busy[i] = true
		}
		if len(worker) != 4*sourcePorts || len(busy) != workers {
			t.Errorf("%s: datagrams from %d ports arrived at %d of %d workers", addr, len(worker), len(busy), workers)
		}
	}
}

// receiveAll receives n datagrams at all workers of p, and enters which of them
// takes those from where.
func receiveAll(t *testing.T, p *Port, n int, worker map[netip.AddrPort]int) {
	t.Helper()
	msgs := make([]Received, Batch)
	for i := range msgs {
		msgs[i].Buf = make([]byte, 100)
	}
	for n > 0 {
		var fds []int
		for _, s := range p.Sockets() {
			fds = append(fds, s.Receivers()[0].FD)
		}
		if !poll(t, unix.POLLIN, fds...) {
			return
		}
		for i, s := range p.Sockets() {
			got, err := s.Recv(0, msgs)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range msgs[:got] {
				if other, known := worker[m.Addr]; known && other != i {
					t.Errorf("datagrams from %s arrive at workers %d and %d", m.Addr, i, other)
				}
				worker[m.Addr] = i
			}
			n -= got
		}
	}
}
