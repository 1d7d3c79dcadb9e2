package encap

// Plain UDP has no header of its own: the first two bits of the datagram are 01,
// which are those of the IP version too, 0100 and 0110 (GUE variant 1). First
// bits 00 are GUE variant 0, which carries a remote checksum, or a control message.
const udpOverhead = gueLen

const _ = uint(Headroom - udpOverhead) // fails to compile where Encap would underrun

func lenUDP(sum Checksum) int {
	if sum == (Checksum{}) {
		return 0
	}
	return gueLen
}

func encapUDP(buf []byte, at int, sum Checksum) (start int) {
	if sum == (Checksum{}) {
		return at
	}
	return encapGUE(buf, at, sum)
}

func decapUDP(datagram []byte) (inner []byte, sum Checksum, kind Kind) {
	if len(datagram) == 0 {
		return nil, Checksum{}, Malformed
	}
	switch datagram[0] >> 6 {
	case 0b00:
		return decapGUE(datagram)
	case 0b01:
		return datagram, Checksum{}, Packet
	}
	return nil, Checksum{}, Malformed
}
