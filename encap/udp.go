package encap

// Plain UDP has no header of its own: the first two bits of the datagram are 01,
// which are those of the IP version too, 0100 and 0110 (GUE variant 1). First
// bits 00 would be GUE variant 0, which this node does not advertise and
// therefore never receives from a peer that keeps to its record.
const udpOverhead = 0

const _ = uint(Headroom - udpOverhead) // fails to compile where Encap would underrun

func encapUDP(at int) (start int) {
	return at - udpOverhead
}

func decapUDP(datagram []byte) (inner []byte, ok bool) {
	if len(datagram) == 0 || datagram[0]>>6 != 0b01 {
		return nil, false
	}
	return datagram, true
}
