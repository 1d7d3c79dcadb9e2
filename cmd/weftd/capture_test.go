//go:build netns

package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/bench/topo"
	"github.com/weft-net/weft/dataplane/packet"
	"github.com/weft-net/weft/dataplane/packet/reference"
)

// capture holds the IPv4 packets that came in through an interface, as tcpdump would
// show them, until they are looked at.
type capture struct {
	in *topo.Namespace
	fd int
}

// captureOn starts with what comes next.
func captureOn(t *testing.T, in *topo.Namespace, device string) *capture {
	t.Helper()
	c := &capture{in: in}
	link, err := in.Handle().LinkByName(device)
	if err != nil {
		t.Fatal(err)
	}
	err = in.Do(func() (err error) {
		const room = 256 << 20 // packets of some tens of MB, with what the kernel adds to each
		protocol := binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, unix.ETH_P_IP))
		// Bound only then to a protocol, so that it gets nothing from other interfaces.
		c.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return err
		}
		return errors.Join(
			unix.SetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, room),
			unix.Bind(c.fd, &unix.SockaddrLinklayer{Protocol: protocol, Ifindex: link.Attrs().Index}))
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(c.fd) })
	return c
}

// each calls look with every packet there is, and checks that none was lost. The
// bytes are look's until it returns.
func (c *capture) each(t *testing.T, look func(p []byte)) {
	t.Helper()
	buf := make([]byte, 1<<17)
	for {
		n, _, err := unix.Recvfrom(c.fd, buf, 0)
		if errors.Is(err, unix.EAGAIN) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		look(buf[:n])
	}
	stats, err := unix.GetsockoptTpacketStats(c.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil {
		t.Fatal(err)
	}
	if stats.Drops > 0 {
		t.Errorf("%s: %d of %d packets were not captured", c.in, stats.Drops, stats.Packets)
	}
}

// right checks the checksums, and the size, of all TCP and UDP packets captured,
// which shall be so many at least.
func (c *capture) right(t *testing.T, atLeast, mtu int) {
	t.Helper()
	checked, wrong := 0, 0
	c.each(t, func(p []byte) {
		l := reference.Read(p)
		if l.Version != 4 || l.Protocol != packet.ProtocolTCP && l.Protocol != packet.ProtocolUDP {
			return
		}
		checked++
		again := bytes.Clone(p)
		reference.HeaderChecksum(again)
		reference.Checksum(again, false)
		if field := again[l.Transport:]; l.Protocol == packet.ProtocolTCP && field[16] == 0 && field[17] == 0 && p[l.Transport+16] == 0xff && p[l.Transport+17] == 0xff {
			field[16], field[17] = 0xff, 0xff // so the kernel itself writes a sum of zero (skb_checksum_help, net/core/dev.c)
		}
		none := l.Protocol == packet.ProtocolUDP && p[l.Transport+6] == 0 && p[l.Transport+7] == 0
		if none && again[l.Transport+6] == 0xff && again[l.Transport+7] == 0xff {
			return // so wireguard/tun writes a sum of zero, and IPv4 takes it for none
		}
		if l.Fragment || len(p) > mtu || none || !bytes.Equal(p, again) {
			if wrong++; wrong == 1 {
				t.Errorf("%s: a packet of %d bytes is\n%x, want\n%x", c.in, len(p), p[:min(len(p), 60)], again[:min(len(p), 60)])
			}
		}
	})
	if wrong > 0 || checked < atLeast {
		t.Errorf("%s: %d wrong packets of %d, want none of at least %d", c.in, wrong, checked, atLeast)
	}
	t.Logf("%s: %d packets checked", c.in, checked)
}
