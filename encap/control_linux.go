package encap

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// controlBatch is how many control messages, or runs of them, one system call takes.
const controlBatch = 8

// ControlSocket is where datagrams of one codec and family arrive that are no packets:
// control messages, questions for the VTEP, and what only looks like them, so that
// whoever takes them asks Station.Decap. One goroutine at a time may use it.
type ControlSocket struct {
	codec Codec
	fd    int // until open
	file  *os.File
	conn  syscall.RawConn
	rx    reception
	msgs  []Received
}

// open hands the descriptor to Go's poller. On an error it is closed.
func (c *ControlSocket) open() (err error) {
	c.file = os.NewFile(uintptr(c.fd), "control socket of "+c.codec.String())
	c.fd = -1
	if c.conn, err = c.file.SyscallConn(); err != nil {
		return fmt.Errorf("open the data port of %s: %w", c.codec, err)
	}
	c.rx.init()
	c.msgs = make([]Received, controlBatch)
	for i := range c.msgs {
		c.msgs[i].Buf = make([]byte, MaxDatagram)
	}
	return nil
}

// Codec is that of the port.
func (c *ControlSocket) Codec() Codec { return c.codec }

// Serve hands each datagram to take, which borrows it, until ctx is done; then it returns
// nil. It must not be called again. An error means that the socket is of no more use.
func (c *ControlSocket) Serve(ctx context.Context, take func(from netip.AddrPort, datagram []byte)) error {
	stop := context.AfterFunc(ctx, func() { _ = c.file.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	for ctx.Err() == nil {
		n, err := c.recv()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("receive control messages on the data port of %s: %w", c.codec, err)
		}
		for i := range c.msgs[:n] {
			m := &c.msgs[i]
			for rest := m.Buf[:m.N]; ; {
				size := min(m.SegmentSize, len(rest))
				take(m.Addr, rest[:size])
				if rest = rest[size:]; len(rest) == 0 {
					break
				}
			}
		}
	}
	return nil
}

// recv waits until something is there.
func (c *ControlSocket) recv() (n int, err error) {
	var errno unix.Errno
	err = c.conn.Read(func(fd uintptr) (done bool) {
		n, errno = c.rx.recv(int(fd), c.msgs)
		return errno != unix.EAGAIN
	})
	if err == nil && errno != 0 {
		err = callError("recvmmsg", errno)
	}
	return n, err
}

func (c *ControlSocket) close() error {
	switch {
	case c.file != nil:
		return c.file.Close()
	case c.fd < 0:
		return net.ErrClosed
	}
	fd := c.fd
	c.fd = -1
	return os.NewSyscallError("close", unix.Close(fd))
}
