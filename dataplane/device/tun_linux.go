// Package device is the kernel's end of the pod network: the TUN device that
// pod packets leave the kernel by and come back through. Linux only.
package device

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/tun"
)

const (
	clonePath = "/dev/net/tun"

	// Headroom is how many bytes a buffer must have in front of a packet that
	// is given to Write: the virtio-net header (include/uapi/linux/virtio_net.h).
	Headroom = 10

	// MaxPacket is the size of the largest packet, in bytes.
	MaxPacket = 65535

	// maxMerge is how many packets may become one superpacket: the kernel
	// refuses one of more UDP segments than UDP_MAX_SEGMENTS, 64 before Linux
	// 6.9 (include/linux/virtio_net.h). At an MTU of 1500 a full
	// TCP superpacket has fewer.
	maxMerge = 64
)

// ErrMalformed is what Read returns when the kernel handed over something that
// is no whole packet, or a superpacket of more segments than there are buffers.
// What could not be read is gone and the device goes on.
var ErrMalformed = errors.New("malformed packet from the TUN device")

// TUN is a TUN device, opened with IFF_VNET_HDR and IFF_MULTI_QUEUE, neither of
// which the kernel lets a device gain later, and driven through wireguard/tun:
// superpackets are split and their checksums completed in Read, and runs of one
// flow are merged again in Write. It goes away when it is closed.
//
// One goroutine may read while any number write.
type TUN struct {
	dev  tun.Device
	name string

	// unmerged is set for good once the kernel refused a superpacket.
	unmerged atomic.Bool
}

// Open creates the TUN device called name. An existing device of that name,
// whoever holds it, is an error.
func Open(name string) (*TUN, error) {
	fd, err := create(name)
	if err != nil {
		return nil, err
	}
	dev, given, err := tun.CreateUnmonitoredTUNFromFD(fd)
	if err != nil {
		// wireguard/tun made an os.File of fd, whose finalizer closes it. Closed
		// here too, the number could be another descriptor's by then.
		return nil, fmt.Errorf("set up TUN device %s: %w", name, err)
	}
	return &TUN{dev: dev, name: given}, nil
}

func create(name string) (created int, err error) {
	fd, err := unix.Open(clonePath, unix.O_RDWR|unix.O_CLOEXEC, 0)
	switch {
	case errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV):
		return -1, fmt.Errorf("open %s: %w; load the TUN driver with `modprobe tun`, or give the container the device", clonePath, err)
	case err != nil:
		return -1, fmt.Errorf("open %s: %w; run weftd as root", clonePath, err)
	}
	defer func() {
		if err != nil {
			unix.Close(fd)
		}
	}()
	req, err := unix.NewIfreq(name)
	if err != nil {
		return -1, fmt.Errorf("create TUN device %s: %w; a name has at most %d bytes", name, err, unix.IFNAMSIZ-1)
	}
	// IFF_TUN_EXCL, because with IFF_MULTI_QUEUE a second process would
	// otherwise silently become another queue of a running one's device.
	req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR | unix.IFF_MULTI_QUEUE | unix.IFF_TUN_EXCL)
	err = unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
	switch {
	case errors.Is(err, unix.EBUSY):
		return -1, fmt.Errorf("create TUN device %s: an interface of that name exists (%w); stop the program that holds it (`ip -d link show %s` says more), or set another name with `tun`", name, err, name)
	case errors.Is(err, unix.EPERM):
		return -1, fmt.Errorf("create TUN device %s: %w; it takes the capability CAP_NET_ADMIN: run weftd as root, or `setcap cap_net_admin+ep $(command -v weftd)`", name, err)
	case err != nil:
		return -1, fmt.Errorf("create TUN device %s: %w", name, err)
	}
	return fd, nil
}

// Name is the device's name.
func (t *TUN) Name() string { return t.name }

// BatchSize is how many buffers Read needs, since that many packets may come out
// of one superpacket, and the most that Write should be given. The kernel makes
// superpackets of more segments too, of TCP with an MSS of less than 512 bytes,
// unless the link's gso_max_segs is set to as many.
func (t *TUN) BatchSize() int { return t.dev.BatchSize() }

// Read blocks until there is a packet, or a superpacket split into several, puts
// each at bufs[i][offset:], its length into sizes[i], and returns how many. Each
// buffer must hold offset+MaxPacket bytes, since the limit is the kernel's and
// not the device's MTU of the moment.
//
// The error wraps net.ErrClosed after Close and when the device was deleted, and
// ErrMalformed where only one read was lost; then n packets are still good. Any
// other error means that the device is of no more use.
func (t *TUN) Read(bufs [][]byte, sizes []int, offset int) (n int, err error) {
	n, err = t.dev.Read(bufs, sizes, offset)
	if err == nil {
		return n, nil
	}
	// What wireguard/tun finds wrong itself is about this packet only; what
	// the system call says is about the device.
	if syscallFailed := new(os.PathError); !errors.Is(err, os.ErrClosed) && !errors.As(err, &syscallFailed) {
		return max(n, 0), fmt.Errorf("%w %s: %w", ErrMalformed, t.name, err)
	}
	return 0, fmt.Errorf("read TUN device %s: %w", t.name, t.asClosed(err))
}

// Write hands the packets bufs[i][offset:] to the kernel, which delivers or
// forwards them. The bytes of bufs, and up to cap(bufs[i]) behind them, are
// Write's until it returns and are overwritten: runs of one flow are merged
// there into superpackets. offset is at least Headroom. The elements of bufs
// may be swapped among each other and grow within their capacity.
//
// lost is how many packets the kernel refused, err why the first of them; the
// others were taken. A superpacket refused among others that were taken counts
// as one.
func (t *TUN) Write(bufs [][]byte, offset int) (lost int, err error) {
	for len(bufs) > 0 {
		n := min(maxMerge, len(bufs))
		if t.unmerged.Load() {
			n = 1 // what comes alone is merged with nothing
		}
		lostNow, errNow := t.write(bufs[:n], offset)
		lost += lostNow
		if err == nil {
			err = errNow
		}
		bufs = bufs[n:]
	}
	return lost, err
}

func (t *TUN) write(bufs [][]byte, offset int) (lost int, err error) {
	written, err := t.dev.Write(bufs, offset)
	if err == nil {
		return 0, nil
	}
	if errors.Is(err, unix.EINVAL) {
		// Linux 6.1.x and 6.6.44 refuse superpackets on a TUN write.
		t.unmerged.Store(true)
	}
	if written == 0 {
		lost = len(bufs)
	} else {
		lost = leaves(err)
	}
	return lost, fmt.Errorf("write TUN device %s: %w", t.name, t.asClosed(err))
}

// leaves counts the errors that were joined into err, one for each refused write.
func leaves(err error) (n int) {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return 1
	}
	for _, e := range joined.Unwrap() {
		n += leaves(e)
	}
	return n
}

// asClosed makes net.ErrClosed the one error that means the end.
func (t *TUN) asClosed(err error) error {
	if errors.Is(err, os.ErrClosed) || t.deleted() {
		return net.ErrClosed
	}
	return err
}

// deleted asks the kernel whether the descriptor has lost its device. A Read does
// not always say so: where the deletion came between two of them, the Go runtime
// has marked the descriptor as "not pollable" and reads no more.
func (t *TUN) deleted() bool {
	raw, err := t.dev.File().SyscallConn()
	if err != nil {
		return false
	}
	gone := false
	err = raw.Control(func(fd uintptr) {
		var req unix.Ifreq
		gone = errors.Is(unix.IoctlIfreq(int(fd), unix.TUNGETIFF, &req), unix.EBADFD)
	})
	return err == nil && gone
}

// Close removes the device and ends a Read that is waiting.
func (t *TUN) Close() error {
	if err := t.dev.Close(); err != nil {
		return fmt.Errorf("close TUN device %s: %w", t.name, err)
	}
	return nil
}
