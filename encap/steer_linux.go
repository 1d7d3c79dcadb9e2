package encap

import (
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// steer has the kernel choose the socket for each datagram to the port of c at addr, to
// which fd is bound as the last of several (SO_ATTACH_REUSEPORT_CBPF, socket(7)): the
// workers' by the source port, which is the flow's hash, and what is no packet the one
// behind them. By its own hash of addresses and ports the kernel would spread eight
// source ports unevenly, and leave control messages among the packets of a worker, where
// they wait as long as those when it is short of CPU.
func steer(fd int, c Codec, vni uint32, addr netip.Addr, workers int) error {
	program := selector(c, vni, addr.Is4(), workers)
	err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_CBPF,
		&unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})
	return os.NewSyscallError("setsockopt SO_ATTACH_REUSEPORT_CBPF", err)
}

// A program's test of the value that was loaded: it goes on with the next instruction where
// the value is k, and else leaves so many out.
func unless(k uint32, skip uint8) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: k, Jf: skip}
}

// loadByte and loadHalf load from an offset in the UDP payload, which is what the kernel runs such a program on
// (run_bpf_filter, net/core/sock_reuseport.c). Where the datagram is shorter the program ends with 0,
// the first worker.
func loadByte(at uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: at}
}

func loadHalf(at uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_H | unix.BPF_ABS, K: at}
}

// selector is a classic BPF program whose result is the index of a socket: it agrees with
// Station.Decap about what is no packet. Of other VXLAN networks than vni all goes to workers.
func selector(c Codec, vni uint32, v4 bool, workers int) []unix.SockFilter {
	control := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: uint32(workers)}
	var program []unix.SockFilter
	switch c {
	case UDP: // GUE variant 0 with the C bit
		program = []unix.SockFilter{
			loadByte(0),
			{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: 0xe0},
			unless(gueControl>>24, 1), control,
		}
	case VXLAN:
		const etherType, inner = vxlanLen + 12, vxlanLen + ethernetLen
		program = []unix.SockFilter{
			{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 4},
			{Code: unix.BPF_ALU | unix.BPF_RSH | unix.BPF_K, K: 8},
			unless(vni, 13),
			loadHalf(etherType),
			unless(etherTypeControl, 1), control,
			unless(etherTypeARP, 1), control,
			unless(etherTypeIPv6, 7),
			loadByte(inner + 6), unless(nextICMP, 5), // see isSolicitation
			loadByte(inner + 7), unless(hopLimit, 3),
			loadByte(inner + ipv6Len), unless(typeNS, 1), control,
		}
	}
	// The UDP header is behind one of IP without options; else it is some other number
	// that a flow's packets share.
	const netOff = ^uint32(0x10_0000) + 1 // SKF_NET_OFF, include/uapi/linux/filter.h
	source := uint32(20)
	if !v4 {
		source = 40
	}
	return append(program,
		loadHalf(netOff+source),
		unix.SockFilter{Code: unix.BPF_ALU | unix.BPF_MOD | unix.BPF_K, K: uint32(workers)},
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_A},
	)
}
