//go:build netns

package device

import (
	"encoding/binary"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/dataplane/offload"
	"github.com/weft-net/weft/dataplane/packet"
	"github.com/weft-net/weft/dataplane/packet/golden"
)

// isSuper says whether a write is of a superpacket.
func isSuper(pieces []unix.Iovec) bool {
	return unsafe.Slice(pieces[0].Base, virtioLen)[1] != gsoNone
}

func TestTrialIsWellFormed(t *testing.T) {
	for gso, transport := range map[packet.GSO]uint32{packet.TCP4: unix.IPPROTO_TCP, packet.UDP: unix.IPPROTO_UDP} {
		v, p := trial(gso)
		again := slices.Clone(p)
		finish(again, v.csumStart, transport, v.csumOffset)
		if gso == packet.UDP {
			binary.BigEndian.PutUint16(again[24:], uint16(len(p)-20))
		}
		if string(p) != string(again) || p[9] != byte(transport) {
			t.Errorf("%d: %x, want %x", gso, p[:v.headerLen], again[:v.headerLen])
		}
		if sender, receiver := net.IP(p[12:16]), net.IP(p[16:20]); sender.String() != "192.0.2.1" || receiver.String() != "198.51.100.1" || v.gso != gso {
			t.Errorf("%d: a %d from %v to %v", gso, v.gso, sender, receiver)
		}
	}
}

// The trial finds out what it says: a kernel that takes superpackets answers EIO
// while the device is down, and EINVAL comes first.
func TestKernelAnswersATrial(t *testing.T) {
	enterNamespace(t)
	for _, gso := range []packet.GSO{packet.TCP4, packet.UDP} {
		_, pairs, err := create(layer3.attach, "weft0", 1, unix.IFF_VNET_HDR|unix.IFF_TUN_EXCL)
		if err != nil {
			t.Fatal(err)
		}
		v, p := trial(gso)
		for _, c := range []struct {
			size int
			want unix.Errno
		}{{v.segmentSize, unix.EIO}, {0, unix.EINVAL}} {
			v.segmentSize = c.size
			var h [virtioLen]byte
			v.encode(&h)
			if errno := writev(pairs[0].out, []unix.Iovec{piece(h[:]), piece(p)}); errno != c.want {
				t.Errorf("superpacket of kind %d with segments of %d bytes: %v, want %v", gso, c.size, errno, c.want)
			}
		}
		if theKernel.refuses(layer3, pairs[0].out, gso) {
			t.Errorf("refuses superpackets of kind %d", gso)
		}
		if err := closeAll(pairs); err != nil {
			t.Error(err)
		}
	}
}

func TestNegotiate(t *testing.T) {
	without := func(missing int) kernel {
		k := theKernel
		k.setOffload = func(fd, flags int) error {
			if flags&missing != 0 {
				return unix.EINVAL
			}
			return theKernel.setOffload(fd, flags)
		}
		return k
	}
	refusing := theKernel
	refusing.writev = func(fd int, pieces []unix.Iovec) unix.Errno {
		if isSuper(pieces) {
			return unix.EINVAL
		}
		return writev(fd, pieces)
	}
	tso, uso := offload.Of(offload.TSO), offload.Of(offload.USO)
	for _, c := range []struct {
		name     string
		kernel   kernel
		want, on offload.Set
		refused  map[offload.Feature]string
	}{
		{"all", theKernel, offload.All, both, nil},
		{"TSO only", theKernel, tso, tso, nil},
		{"USO only", theKernel, uso, uso, nil},
		{"before Linux 6.2", without(unix.TUN_F_USO4), both, tso, map[offload.Feature]string{offload.USO: "no UDP segmentation (TUNSETOFFLOAD: invalid argument); Linux 6.2"}},
		{"without TSO", without(unix.TUN_F_TSO4), both, uso, map[offload.Feature]string{offload.TSO: "no TCP segmentation (TUNSETOFFLOAD: invalid argument)"}},
		{"without anything", without(unix.TUN_F_CSUM), both, 0, map[offload.Feature]string{offload.TSO: "invalid argument", offload.USO: "invalid argument"}},
		{"Linux 6.1", refusing, both, 0, map[offload.Feature]string{offload.TSO: "written one by one", offload.USO: "written one by one"}},
		{"Linux 6.1, TSO only", refusing, tso, 0, map[offload.Feature]string{offload.TSO: "Linux 6.1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			enterNamespace(t)
			dev, err := open(layer3, "weft0", 1, c.want, c.kernel)
			if err != nil {
				t.Fatal(err)
			}
			defer dev.Close()
			refused := dev.Refused()
			if dev.Features() != c.on || len(refused) != len(c.refused) {
				t.Errorf("on %v, refused %v", dev.Features(), refused)
			}
			for f, words := range c.refused {
				if err := refused[f]; err == nil || !strings.Contains(err.Error(), words) || !errors.Is(err, unix.EINVAL) {
					t.Errorf("%v: %v does not say %q", f, err, words)
				}
			}
			if _, ok := dev.Queues()[0].(*superqueue); !ok {
				t.Errorf("the queue is a %T", dev.Queues()[0])
			}
		})
	}
}

// A kernel that refuses superpackets only once the device is up loses none of
// their packets, and is given no other.
func TestWriteAfterTheKernelRefused(t *testing.T) {
	handle := enterNamespace(t)
	supers := 0
	k := theKernel
	k.writev = func(fd int, pieces []unix.Iovec) unix.Errno {
		if isSuper(pieces) && len(pieces) > 2 { // the trial has two
			supers++
			return unix.EINVAL
		}
		return writev(fd, pieces)
	}
	dev, link := mustOpen(t, handle, 1, both, k, "10.244.2.9/16")
	conn := kernelSocket(t)
	for range 2 {
		g, payloads := super(t, 40, 1000)
		before, after := []byte("before"), []byte("after")
		counted := statistics(t, handle, link).RxPackets
		if refused, err := dev.Queues()[0].Write([]packet.Group{single(datagram(t, before)), g, single(datagram(t, after))}); refused != 0 || err != nil {
			t.Fatalf("Write = %d %v", refused, err)
		}
		receive(t, conn, slices.Concat([][]byte{before}, payloads, [][]byte{after})...)
		if n := statistics(t, handle, link).RxPackets - counted; n != 42 {
			t.Errorf("42 packets went in as %d", n)
		}
	}
	if supers != 1 || dev.Features() != offload.Of(offload.TSO) || !errors.Is(dev.Refused()[offload.USO], unix.EINVAL) {
		t.Errorf("%d superpackets were tried, on is %v, refused %v", supers, dev.Features(), dev.Refused())
	}
}

// Of members whose checksums are complete none is completed again.
func TestWriteOneByOneOfCompleteMembers(t *testing.T) {
	handle := enterNamespace(t)
	dev, _ := mustOpen(t, handle, 1, offload.Of(offload.TSO), theKernel, "10.244.2.9/16")
	conn := kernelSocket(t)
	g, payloads := super(t, 3, 100)
	g.Partial = false
	for i, p := range payloads {
		g.Members[i] = datagram(t, p)
	}
	if refused, err := dev.Queues()[0].Write([]packet.Group{g}); refused != 0 || err != nil {
		t.Fatalf("Write = %d %v", refused, err)
	}
	receive(t, conn, payloads...)
}

// Packets that the kernel does not take one by one either say nothing about superpackets.
func TestInvalidPacketsLoseNoFeature(t *testing.T) {
	handle := enterNamespace(t)
	dev, _ := mustOpen(t, handle, 1, both, theKernel, "10.244.2.9/16")
	conn := kernelSocket(t)
	bad, _ := super(t, 5, 100)
	for _, m := range append(bad.Members, bad.Header) {
		m[0] = 5<<4 | 5
	}
	good, payloads := super(t, 5, 100)
	groups := []packet.Group{bad, good, single(golden.Load(t, "malformed-version-5"))}
	if refused, err := dev.Queues()[0].Write(groups); refused != 6 || !errors.Is(err, unix.EINVAL) {
		t.Fatalf("Write = %d %v", refused, err)
	}
	receive(t, conn, payloads...)
	if dev.Features() != both {
		t.Errorf("lost %v", dev.Refused())
	}
}

// The portable queue gives a kernel that refuses superpackets none again.
func TestPortableWriteAfterTheKernelRefused(t *testing.T) {
	handle := enterNamespace(t)
	dev, link := mustOpen(t, handle, 1, 0, theKernel, "10.244.2.9/16")
	q, conn := dev.Queues()[0], kernelSocket(t)
	// Any packet that the driver finds invalid stands for a refused superpacket.
	good, payloads := singles(t, 128)
	bad := []packet.Group{single(datagram(t, []byte("before"))), single(golden.Load(t, "malformed-version-5")), good[0]}
	if refused, err := q.Write(bad); refused != 1 || !errors.Is(err, unix.EINVAL) {
		t.Fatalf("Write of three packets, one invalid = %d %v", refused, err)
	}
	receive(t, conn, []byte("before"), payloads[0])

	counted := statistics(t, handle, link).RxPackets
	if refused, err := q.Write(good); refused != 0 || err != nil {
		t.Fatalf("Write = %d %v", refused, err)
	}
	receive(t, conn, payloads...)
	if n := statistics(t, handle, link).RxPackets - counted; n != 128 {
		t.Errorf("128 packets went in as %d", n)
	}
}

// Kernels before 6.9 refuse more than 64 segments.
func TestPortableWriteMergesNoMoreThanEveryKernelTakes(t *testing.T) {
	handle := enterNamespace(t)
	dev, link := mustOpen(t, handle, 1, 0, theKernel, "10.244.2.9/16")
	conn := kernelSocket(t)
	groups, payloads := singles(t, 128)
	if refused, err := dev.Queues()[0].Write(groups); refused != 0 || err != nil {
		t.Fatalf("Write = %d %v", refused, err)
	}
	receive(t, conn, payloads...)
	if n := statistics(t, handle, link).RxPackets; n != 2 {
		t.Errorf("128 packets went in as %d", n)
	}
}
