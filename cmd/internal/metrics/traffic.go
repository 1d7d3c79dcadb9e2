package metrics

import "github.com/weft-net/weft/cmd/internal/control"

// The values of the label direction.
const (
	egress  = "egress"  // from the TUN to peers
	ingress = "ingress" // from peers to the TUN
)

// Immutable.
var (
	received  = desc("received_packets_total", "Inner packets that came to weftd; always those forwarded and those dropped together.", "direction")
	forwarded = desc("forwarded_packets_total", "Inner packets that weftd passed on.", "direction")
	bytes     = desc("forwarded_bytes_total", "Bytes of the inner packets that weftd passed on.", "direction")
	drops     = desc("drops_total", "Inner packets that weftd dropped; `weft drops` says what the reasons mean.", "direction", "reason")
	icmp      = desc("icmp_errors_sent_total", "ICMP errors that told a pod of a dropped packet.")

	kernelDrops = desc("kernel_drops_total", "What the kernel dropped beside weftd: datagrams that a data socket's buffer did not take, packets that the TUN's queue did not take (a superpacket as one), packets whose source was not the sender's to use.", "cause")

	reads    = desc("tun_read_packets", "Packets of one read from the TUN, a superpacket as one.")
	writes   = desc("tun_write_packets", "Packets of one write to the TUN, a superpacket as one.")
	sends    = desc("underlay_send_datagrams", "Datagrams of one send to the underlay.")
	receives = desc("underlay_receive_datagrams", "Datagrams of one receive from the underlay.")
	supers   = desc("tun_superpackets_total", "Superpackets among the packets that were read from the TUN (egress) or written to it (ingress).", "direction")
)

// traffic shows what became of every packet.
func (s sink) traffic(d control.Drops, in Internals) {
	for direction, account := range map[string]control.Direction{egress: d.Egress, ingress: d.Ingress} {
		s.counter(received, account.Received, direction)
		s.counter(forwarded, account.Forwarded, direction)
		for reason, count := range account.Drops {
			s.counter(drops, count, direction, reason)
		}
	}
	s.counter(bytes, in.Bytes.Egress, egress)
	s.counter(bytes, in.Bytes.Ingress, ingress)
	s.counter(icmp, d.ICMPSent)

	s.counter(kernelDrops, d.Kernel.SocketOverflow, "socket-overflow")
	s.counter(kernelDrops, d.Kernel.TunTxDropped, "tun-queue-full")
	s.counter(kernelDrops, d.Kernel.Spoofed, "spoofed")

	s.histogram(reads, in.Batches.Reads)
	s.histogram(writes, in.Batches.Writes)
	s.histogram(sends, in.Batches.Sends)
	s.histogram(receives, in.Batches.Receives)
	s.counter(supers, in.Batches.SuperRead, egress)
	s.counter(supers, in.Batches.SuperWritten, ingress)
}
