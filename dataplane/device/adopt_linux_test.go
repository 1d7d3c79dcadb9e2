//go:build netns

package device

import (
	"errors"
	"fmt"
	"net"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/dataplane/offload"
	"github.com/weft-net/weft/dataplane/packet"
)

// copies are dev's descriptors as another process would get them.
func copies(t *testing.T, dev interface{ Descriptors() map[string]int }) map[string]int {
	t.Helper()
	all := make(map[string]int)
	for name, fd := range dev.Descriptors() {
		dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		all[name] = dup
	}
	return all
}

// What waits in the queues while nobody has the device comes out of the next owner's, in order
// for each flow, and the device is the same.
func TestAdopt(t *testing.T) {
	kinds(t, func(t *testing.T, want offload.Set) {
		for _, queues := range []int{1, 3} {
			t.Run(fmt.Sprint(queues), func(t *testing.T) {
				handle := enterNamespace(t)
				dev, link := mustOpen(t, handle, queues, want, theKernel, "10.244.2.9/16")
				given := copies(t, dev)
				if err := dev.Leave(); err != nil {
					t.Fatal(err)
				}
				conn := kernelSocket(t)
				const packets = 200
				for i := range packets {
					send(t, conn, []byte{byte(i)})
				}
				next, err := Adopt(given, "weft0", queues, want)
				if err != nil {
					t.Fatal(err)
				}
				defer next.Close()
				for i := range packets {
					q := waitReadable(t, next.Queues()...)
					if p := readFirst(t, q); p.Data()[28] != byte(i) {
						t.Fatalf("packet %d comes in the place of %d", p.Data()[28], i)
					}
				}
				receiveAll(t, next, conn)
				if after, err := handle.LinkByName("weft0"); err != nil || after.Attrs().Index != link.Attrs().Index {
					t.Errorf("the device is %v (%v)", after, err)
				}
				if got := next.Features(); got != want {
					t.Errorf("it does %s, the one before did %s", got, want)
				}
				if err := next.Close(); err != nil {
					t.Error(err)
				}
				if _, err := handle.LinkByName("weft0"); !errors.As(err, new(netlink.LinkNotFoundError)) {
					t.Errorf("after Close the device is still there (%v)", err)
				}
			})
		}
	})
}

// readFirst takes one packet of those that wait.
func readFirst(t *testing.T, q Queue) packet.Packet {
	t.Helper()
	pkts := make([]packet.Packet, 1)
	if n, err := q.Read(make([]byte, MaxRead), pkts); n != 1 || err != nil {
		t.Fatalf("Read = %d %v", n, err)
	}
	return pkts[0]
}

// Descriptors of another name, number or kind are refused, closed, and the device is as before.
func TestAdoptUnfit(t *testing.T) {
	handle := enterNamespace(t)
	dev, _ := mustOpen(t, handle, 2, both, theKernel, "10.244.2.9/16")
	socket := func(fds map[string]int) {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		unix.Close(fds["in.1"])
		fds["in.1"] = fd
	}
	for what, c := range map[string]struct {
		name   string
		queues int
		change func(map[string]int)
	}{
		"another name":       {"weft1", 2, nil},
		"more queues":        {"weft0", 3, nil},
		"fewer queues":       {"weft0", 1, nil},
		"no TUN among them":  {"weft0", 2, socket},
		"in and out changed": {"weft0", 2, func(fds map[string]int) { fds["in.0"], fds["out.0"] = fds["out.0"], fds["in.0"] }},
	} {
		given := copies(t, dev)
		if c.change != nil {
			c.change(given)
		}
		if _, err := Adopt(given, c.name, c.queues, both); !errors.Is(err, ErrUnfit) {
			t.Errorf("%s: %v", what, err)
		}
		for name, fd := range given {
			if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); !errors.Is(err, unix.EBADF) {
				t.Errorf("%s: %s is still open (%v)", what, name, err)
			}
		}
	}
	conn := kernelSocket(t)
	send(t, conn, []byte("still here"))
	readOne(t, waitReadable(t, dev.Queues()...))
}

// A device that is persistent stays without a process, with its address, and is taken over by its name.
func TestReopen(t *testing.T) {
	kinds(t, func(t *testing.T, want offload.Set) {
		handle := enterNamespace(t)
		dev, link := mustOpen(t, handle, 2, want, theKernel, "10.244.2.9/16")
		if err := errors.Join(dev.Persist(), dev.Leave()); err != nil {
			t.Fatal(err)
		}
		next, err := Reopen("weft0", 2, want)
		if err != nil {
			t.Fatal(err)
		}
		defer next.Close()
		if after, err := handle.LinkByName("weft0"); err != nil || after.Attrs().Index != link.Attrs().Index {
			t.Errorf("the device is %v (%v)", after, err)
		}
		receiveAll(t, next, kernelSocket(t))
		if err := next.Close(); err != nil {
			t.Error(err)
		}
		if _, err := handle.LinkByName("weft0"); err == nil {
			t.Error("after Close the device is still there")
		}
	})
}

// receiveAll passes a packet each way.
func receiveAll(t *testing.T, dev *TUN, conn *net.UDPConn) {
	t.Helper()
	send(t, conn, []byte("out"))
	readOne(t, waitReadable(t, dev.Queues()...))
	if refused, err := dev.Queues()[0].Write([]packet.Group{single(datagram(t, []byte("in")))}); refused != 0 || err != nil {
		t.Fatalf("Write = %d %v", refused, err)
	}
	receive(t, conn, []byte("in"))
}
