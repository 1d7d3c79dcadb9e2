package encap

// Tunnel is the way to one peer: a codec, and what its header says. Workers share
// it, therefore nobody may change it while they use it.
type Tunnel struct {
	Codec Codec

	// VXLAN alone has these: the network identifier that the peer takes, of 24 bits,
	// and the VTEP addresses of this node and of the peer.
	VNI           uint32
	Local, Remote MAC
}

// Takes says whether the codec's header can express a remote checksum. One that it
// cannot must be completed before the packet is sent.
func (t *Tunnel) Takes(sum Checksum) bool {
	switch t.Codec {
	case UDP:
		return true
	case VXLAN:
		return vxlanTakes(sum, ethernetLen)
	}
	panic("encap: no such codec")
}

// Len is how many bytes Encap writes.
func (t *Tunnel) Len(sum Checksum) int {
	switch t.Codec {
	case UDP:
		return lenUDP(sum)
	case VXLAN:
		return vxlanOverhead
	}
	panic("encap: no such codec")
}

// Encap writes the encapsulation header in front of the inner packet that starts
// at buf[at], and returns where the datagram now starts. There must be room for
// Len(sum) bytes, and the tunnel must take sum. Of the packet itself the first byte
// is read and none written, therefore buf may end anywhere behind that.
func (t *Tunnel) Encap(buf []byte, at int, sum Checksum) (start int) {
	switch t.Codec {
	case UDP:
		return encapUDP(buf, at, sum)
	case VXLAN:
		return t.encapVXLAN(buf, at, sum)
	}
	panic("encap: no such codec")
}

// AppendControl appends to dst a datagram that carries a control message to the
// peer, and has size bytes: zeros follow the message. Where message and header have
// more, the datagram is as large as they are.
func (t *Tunnel) AppendControl(dst, message []byte, size int) []byte {
	start := len(dst)
	switch t.Codec {
	case UDP:
		dst = appendGUEControl(dst)
	case VXLAN:
		dst = t.appendFrame(dst, t.Remote, t.Local, etherTypeControl)
	default:
		panic("encap: no such codec")
	}
	dst = append(dst, message...)
	if padding := start + size - len(dst); padding > 0 {
		dst = append(dst, make([]byte, padding)...)
	}
	return dst
}
