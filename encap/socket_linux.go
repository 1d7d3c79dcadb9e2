package encap

import (
	"fmt"
	"net"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Socket is a worker's end of a Port. One goroutine at a time may use it, and
// nothing in it waits: where there is nothing to do, Receivers and Full say what to
// poll.
type Socket struct {
	port      *Port
	receivers []Receiver
	full      int // a send descriptor that was full, or -1

	rx reception
	tx struct {
		vector
		iovs     [pieces]unix.Iovec
		segments [Batch]int // how many datagrams each of msgs stands for

		loaded, used int // of msgs and of iovs
	}
	// The system call, so that a test can have it fail.
	sendmmsg func(fd int, msgs []mmsghdr) (n int, errno unix.Errno)
}

// Receiver is a descriptor where datagrams of one codec arrive. It is readable when
// Recv has something.
type Receiver struct {
	FD    int
	Codec Codec
}

func newWorkerSocket(p *Port) *Socket {
	s := &Socket{port: p, full: -1, sendmmsg: sendmmsg}
	s.rx.init()
	s.tx.init()
	return s
}

// Receivers is one for each open codec and family. They stay the same until the
// port is closed.
func (s *Socket) Receivers() []Receiver { return s.receivers }

// Recv takes what has arrived at Receivers()[i], as far as msgs and Batch reach.
// Only the first n messages are meaningful; n is 0 where there is nothing. An error
// means that the socket is of no more use.
//
// A Received may have more bytes than any underlay carries, and be one datagram: a
// kernel's VXLAN device hands over superpackets as they are where no real device
// lies between.
func (s *Socket) Recv(i int, msgs []Received) (n int, err error) {
	n, errno := s.rx.recv(s.receivers[i].FD, msgs)
	if errno != 0 && errno != unix.EAGAIN {
		return 0, fmt.Errorf("receive on the data port of %s: %w", s.receivers[i].Codec, callError("recvmmsg", errno))
	}
	return n, nil
}

// reception is the memory of a batched receive.
type reception struct {
	vector
	iovs [Batch]unix.Iovec
}

func (v *reception) init() {
	v.vector.init()
	for i := range v.msgs {
		v.msgs[i].hdr.Iov = &v.iovs[i]
		v.msgs[i].hdr.Iovlen = 1
	}
}

// recv takes what has arrived at fd, as far as msgs and Batch reach: EAGAIN says that it is nothing.
func (v *reception) recv(fd int, msgs []Received) (n int, errno unix.Errno) {
	count := min(len(msgs), Batch)
	for i := range count {
		v.iovs[i].Base = unsafe.SliceData(msgs[i].Buf)
		v.iovs[i].SetLen(len(msgs[i].Buf))
		v.msgs[i].hdr.Namelen = sizeofSockaddr
		v.msgs[i].hdr.Controllen = controlLen
	}
	r, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&v.msgs)),
		uintptr(count), unix.MSG_DONTWAIT, 0, 0)
	runtime.KeepAlive(msgs)
	if errno != 0 {
		return 0, errno
	}
	n = int(r)
	for i := range n {
		m := &msgs[i]
		m.N = int(v.msgs[i].n)
		m.Addr = v.addrs[i].addrPort()
		m.SegmentSize, m.DSField = v.controls(i)
		if m.SegmentSize == 0 {
			m.SegmentSize = m.N
		}
	}
	return n, 0
}

func callError(call string, errno unix.Errno) error {
	if errno == unix.EBADF {
		return net.ErrClosed
	}
	return os.NewSyscallError(call, errno)
}
