package encap

import "net/netip"

// sourcePorts is how many source ports datagrams leave from. Eight suffice to use
// all of a bundle of a few links and of a card's receive queues, and flows that
// share one still share a send. All codecs share them too.
const sourcePorts = 8

// firstSourcePort is the first of them. They are the same after a restart, so that
// flows keep their order across it: the far side chooses a worker by ports. They lie above
// those that Linux gives out by itself (ip_local_port_range, to 60999).
const firstSourcePort = 61440

// What may be fragmented has a source port more, since it takes a socket of its own, and
// so have control messages: the kernel puts together what comes from one port, and
// steers that by its first datagram.
const (
	fragments = sourcePorts
	controls  = sourcePorts + 1
	perFamily = sourcePorts + 2
	sources   = 2 * perFamily
)

// noFamily stands for a descriptor where the node has no address of that family.
const noFamily = -2

// SamePort says whether datagrams of two flows leave from one source port, so that
// they may share a Message.
func SamePort(a, b uint32) bool { return a%sourcePorts == b%sourcePorts }

// source is the index of the descriptor that the message leaves from.
func (m *Message) source() int {
	if m.Fragment {
		return sourceIndex(m.Addr.Addr(), fragments)
	}
	return sourceIndex(m.Addr.Addr(), int(m.Flow%sourcePorts))
}

// SourcePort is the port that the message leaves from, unless another program has it.
func (m *Message) SourcePort() uint16 {
	return firstSourcePort + uint16(m.source()%perFamily)
}

// sourceIndex is that of source port i for addr's family.
func sourceIndex(addr netip.Addr, i int) int {
	if addr.Is4() {
		return i
	}
	return perFamily + i
}
