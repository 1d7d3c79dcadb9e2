package gossip

import (
	"errors"
	"os"
	"strings"
	"syscall"
)

// maxSegment is the MSS of gossip's streams: what fits in 1280 bytes, the least that a
// path of IPv6 takes, with its header and TCP's (RFC 8200 section 5).
const maxSegment = 1280 - 40 - 20

// narrow has a socket's packets pass where a path takes less than the links at its ends,
// and nobody says so: streams are of small segments, both ways, since each end announces
// what it takes; datagrams may be fragmented on the way, where that is IPv4.
func narrow(network, _ string, c syscall.RawConn) error {
	level, option, value := syscall.IPPROTO_TCP, syscall.TCP_MAXSEG, maxSegment
	switch {
	case strings.HasSuffix(network, "6") && strings.HasPrefix(network, "udp"):
		return nil
	case strings.HasPrefix(network, "udp"):
		level, option, value = syscall.IPPROTO_IP, syscall.IP_MTU_DISCOVER, syscall.IP_PMTUDISC_DONT
	}
	var err error
	control := c.Control(func(fd uintptr) {
		err = os.NewSyscallError("setsockopt", syscall.SetsockoptInt(int(fd), level, option, value))
	})
	return errors.Join(control, err)
}
