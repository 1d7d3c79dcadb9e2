//go:build netns

package device

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/dataplane/offload"
	"github.com/weft-net/weft/dataplane/packet"
)

func TestOpenTAPMakesADevice(t *testing.T) {
	kinds(t, func(t *testing.T, want offload.Set) {
		for _, queues := range []int{1, 3} {
			handle := enterNamespace(t)
			before := descriptors(t)
			dev, err := OpenTAP("seg-x", queues, want)
			if err != nil {
				t.Fatal(err)
			}
			defer dev.Close()
			link, err := handle.LinkByName("seg-x")
			if err != nil {
				t.Fatal(err)
			}
			tuntap, ok := link.(*netlink.Tuntap)
			flags := netlink.TUNTAP_NO_PI | netlink.TUNTAP_MULTI_QUEUE
			if want != 0 {
				flags |= netlink.TUNTAP_VNET_HDR
			}
			const all = netlink.TUNTAP_NO_PI | netlink.TUNTAP_MULTI_QUEUE | netlink.TUNTAP_VNET_HDR
			disabled := 0
			if queues > 1 {
				disabled = queues
			}
			if !ok || tuntap.Mode != netlink.TUNTAP_MODE_TAP || tuntap.Flags&all != flags || !tuntap.NonPersist || tuntap.Queues != queues || tuntap.DisabledQueues != disabled {
				t.Errorf("the kernel made %+v", link)
			}
			if dev.Name() != "seg-x" || len(dev.Queues()) != queues || dev.Features() != want || len(dev.Refused()) != 0 {
				t.Errorf("%q with %d queues has %v and not %v", dev.Name(), len(dev.Queues()), dev.Features(), dev.Refused())
			}
			for name, fd := range dev.Descriptors() {
				if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
					t.Errorf("descriptor %s is inherited: %#x %v", name, flags, err)
				}
			}
			inUse := descriptors(t)
			for range 5 {
				_, err := OpenTAP("seg-x", queues, want)
				if !errors.Is(err, unix.EBUSY) || !strings.Contains(err.Error(), "give the segment another name") {
					t.Fatalf("the name was given twice (%v)", err)
				}
			}
			if now := descriptors(t); now != inUse {
				t.Errorf("%d descriptors are open, %d were before", now, inUse)
			}
			if err := errors.Join(dev.Close(), dev.Close()); err != nil {
				t.Error(err)
			}
			if link, err := handle.LinkByName("seg-x"); err == nil {
				t.Errorf("after Close there still is %+v", link)
			}
			if now := descriptors(t); now > before+2 { // the Go runtime's poller may be among them
				t.Errorf("after Close %d descriptors are open, %d were before", now, before)
			}
		}
	})
}

// passes a frame each way, and each is the first of its way.
func (s site) passes(t *testing.T, w wire, text string) {
	t.Helper()
	if err := s.tap.Inject(marker(text)); err != nil {
		t.Fatal(err)
	}
	w.receive(t, marker(text))
	back := marker(text)
	copy(back[6:], vmMAC)
	w.send(t, back)
	if p := readTAP(t, s.tap.Queues()...); string(p.Data()) != string(back) {
		t.Fatalf("%x came back, want %x", p.Data(), back)
	}
}

// A TAP goes to another owner as a TUN does, and stays in its bridge, with what waits in it. The owner may be
// of the other kind where it makes queues of its own. None of the trials leaves the TAP for the bridge.
func TestTAPChangesHands(t *testing.T) {
	kinds(t, func(t *testing.T, want offload.Set) {
		for _, queues := range []int{1, 2} {
			t.Run(fmt.Sprint(queues), func(t *testing.T) {
				s := newSite(t, 1, queues, want)
				w := s.wire(t)
				s.passes(t, w, "first")

				given := copies(t, s.tap)
				if err := s.tap.Leave(); err != nil {
					t.Fatal(err)
				}
				waiting := []byte("\xff\xff\xff\xff\xff\xff" + vmMAC + "\x88\xb5waiting")
				w.send(t, waiting)
				var err error
				if s.tap, err = AdoptTAP(given, "seg-x", queues, want); err != nil {
					t.Fatal(err)
				}
				if p := readTAP(t, s.tap.Queues()...); string(p.Data()) != string(waiting) {
					t.Errorf("%x waited, want %x", p.Data(), waiting)
				}
				s.passes(t, w, "adopted")

				given = copies(t, s.tap)
				if _, err := AdoptTAP(given, "seg-x", queues, both&^want); !errors.Is(err, ErrUnfit) {
					t.Errorf("one of the other kind adopts it: %v", err)
				}
				given = copies(t, s.tap)
				if _, err := Adopt(given, "seg-x", queues, want); !errors.Is(err, ErrUnfit) {
					t.Errorf("a TUN adopts it: %v", err)
				}

				for _, next := range []offload.Set{want, both &^ want} {
					if err := errors.Join(s.tap.Persist(), s.tap.Leave()); err != nil {
						t.Fatal(err)
					}
					s.onNode(t, func() { s.tap, err = ReopenTAP("seg-x", queues, next) })
					if err != nil {
						t.Fatal(err)
					}
					s.forwards(t, "seg-x")
					if s.tap.Features() != next {
						t.Errorf("it does %s: %v", s.tap.Features(), s.tap.Refused())
					}
					s.passes(t, w, "reopened")
					link, err := s.node.LinkByName("seg-x")
					if err != nil || link.Attrs().Index != s.link.Attrs().Index || link.(*netlink.Tuntap).NonPersist {
						t.Fatalf("the device is %+v (%v)", link, err)
					}
				}
				if err := s.tap.Close(); err != nil {
					t.Error(err)
				}
				if link, err := s.node.LinkByName("seg-x"); err == nil {
					t.Errorf("after Close there still is %+v", link)
				}
			})
		}
	})
}

// Without virtio-net headers there are no superpackets, and no checksums to complete, also where the TAP had both
// before.
func TestReopenTAPWithoutSuperpackets(t *testing.T) {
	s := newSite(t, 1, 1, both)
	if err := errors.Join(s.tap.Persist(), s.tap.Leave()); err != nil {
		t.Fatal(err)
	}
	var err error
	if s.onNode(t, func() { s.tap, err = ReopenTAP("seg-x", 1, 0) }); err != nil {
		t.Fatal(err)
	}
	s.forwards(t, "seg-x")
	s.address(t, "10.244.2.9/16")
	s.knows(t, peer.Addr().AsSlice(), []byte(elsewhereMAC))
	conn := kernelSocket(t)
	setSegment(t, conn, 1000)
	payload := bytes.Repeat([]byte("0123456789"), 300)
	send(t, conn, payload)
	for i := range 3 {
		q := waitReadable(t, s.tap.Queues()[0])
		pkts := make([]packet.Packet, 1)
		if n, err := q.Read(make([]byte, MaxReadTAP), pkts); n != 1 || err != nil {
			t.Fatalf("Read = %d %v", n, err)
		}
		checkDatagram(t, pkts[0].Data()[14:], payload[i*1000:(i+1)*1000])
	}
	if err := s.tap.Close(); err != nil {
		t.Error(err)
	}
}

// Flows keep their queue, whatever queue their answers are written to.
func TestTAPFlowsKeepTheirQueue(t *testing.T) {
	kinds(t, func(t *testing.T, want offload.Set) {
		const queues, flows = 3, 32
		s := newSite(t, 1, queues, want)
		w := s.wire(t)
		used := make(map[Queue]bool)
		for flow := range flows {
			ip := datagram(t, []byte("there"))
			ip[21], ip[26], ip[27] = byte(flow), 0, 0 // another source port, and no checksum
			var first Queue
			for i := range queues {
				w.send(t, append([]byte(elsewhereMAC+vmMAC+"\x08\x00"), ip...))
				q := waitReadable(t, s.tap.Queues()...)
				readTAP(t, q)
				if first == nil {
					first = q
				}
				if q != first {
					t.Fatalf("flow %d has moved", flow)
				}
				used[q] = true
				back := append([]byte(nil), ip...)
				copy(back[12:16], ip[16:20])
				copy(back[16:20], ip[12:16])
				copy(back[20:22], ip[22:24])
				copy(back[22:24], ip[20:22])
				if _, err := s.tap.Queues()[i].Write([]packet.Group{{Link: []byte(vmMAC + elsewhereMAC + "\x08\x00"), Members: [][]byte{back}}}); err != nil {
					t.Fatal(err)
				}
			}
		}
		if len(used) != queues {
			t.Errorf("%d of %d queues were used", len(used), queues)
		}
	})
}

func TestDeletedTAP(t *testing.T) {
	kinds(t, func(t *testing.T, want offload.Set) {
		s := newSite(t, 1, 2, want)
		if err := s.node.LinkDel(s.link); err != nil {
			t.Fatal(err)
		}
		for _, q := range s.tap.Queues() {
			waitReadable(t, q)
			if n, err := q.Read(make([]byte, MaxReadTAP), make([]packet.Packet, 1)); n != 0 || !errors.Is(err, net.ErrClosed) {
				t.Errorf("Read = %d %v", n, err)
			}
			if refused, err := q.Write([]packet.Group{{Link: marker(""), Members: [][]byte{{1}, {2}}}}); refused != 2 || !errors.Is(err, net.ErrClosed) {
				t.Errorf("Write = %d %v", refused, err)
			}
		}
		if err := s.tap.Inject(marker("late")); !errors.Is(err, net.ErrClosed) || !strings.Contains(err.Error(), "TAP device seg-x") {
			t.Errorf("Inject = %v", err)
		}
		if err := s.tap.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestTAPReadAndWriteAllocateNothing(t *testing.T) {
	kinds(t, func(t *testing.T, want offload.Set) {
		s := newSite(t, 1, 1, want)
		w, q := s.wire(t), s.tap.Queues()[0]
		link := []byte(elsewhereMAC + elsewhereMAC + "\x08\x00") // to where it comes from: the bridge drops it
		groups := []packet.Group{
			frameGroup(superFrame(t, link, packet.UDP, 20*1000, 1000), len(link)),
			{Link: link, Members: [][]byte{datagram(t, []byte("one"))}},
		}
		arena, pkts, out := make([]byte, 2*MaxReadTAP), make([]packet.Packet, 4), marker("out")
		if n := testing.AllocsPerRun(100, func() {
			if refused, err := q.Write(groups); refused != 0 || err != nil {
				t.Fatalf("Write = %d %v", refused, err)
			}
			w.send(t, out)
			if n, err := q.Read(arena, pkts); n != 1 || err != nil {
				t.Fatalf("Read = %d %v", n, err)
			}
		}); n != 0 {
			t.Errorf("%v allocations", n)
		}
	})
}
