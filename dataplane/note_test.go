package dataplane_test

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/dataplane/dataplanetest"
	"github.com/weft-net/weft/encap"
)

// What peers send to the node itself is no packet: it is noted, and in no account.
func TestNotes(t *testing.T) {
	network := dataplanetest.NewNetwork()
	b := newNode(t, network, 2, 1)
	message, long := []byte("is anybody there?"), bytes.Repeat([]byte{0xab}, 300)
	udp := &encap.Tunnel{Codec: encap.UDP}
	vx := &encap.Tunnel{Codec: encap.VXLAN, VNI: testVNI, Local: station(1).MAC, Remote: station(2).MAC}
	arp := frame(t, "ffffffffffff 020000000001 0806", "0001080006040001 020000000001 0af40100 000000000000 0af40200")
	padded := func(data []byte, n int) []byte { return append(bytes.Clone(data), make([]byte, n-len(data))...) }

	for _, c := range []struct {
		name     string
		from, to netip.AddrPort
		datagram []byte
		want     dataplane.Note
		data     []byte
	}{
		{"control", endpoint(1), endpoint(2), udp.AppendControl(nil, message, 0), dataplane.Note{Size: 28 + 4 + 17}, message},
		{"control over IPv6", endpoint6(1), endpoint6(2), udp.AppendControl(nil, message, 0), dataplane.Note{Size: 48 + 4 + 17}, message},
		{"a probe", endpoint(1), endpoint(2), udp.AppendControl(nil, message, 1472), dataplane.Note{Size: 1500}, padded(message, 128)},
		{"of several bytes more than there is room for", endpoint(1), endpoint(2), udp.AppendControl(nil, long, 0), dataplane.Note{Size: 28 + 4 + 300}, long[:128]},
		{"empty", endpoint(1), endpoint(2), udp.AppendControl(nil, nil, 0), dataplane.Note{Size: 28 + 4}, nil},
		{"control in VXLAN", endpoint(1), vxlan(endpoint(2)), vx.AppendControl(nil, message, 0), dataplane.Note{Codec: encap.VXLAN, Size: 28 + 22 + 17}, message},
		{"a probe in VXLAN over IPv6", endpoint6(1), vxlan(endpoint6(2)), vx.AppendControl(nil, message, 1452), dataplane.Note{Codec: encap.VXLAN, Size: 1500}, padded(message, 128)},
		{"a question", endpoint(1), vxlan(endpoint(2)), arp, dataplane.Note{Codec: encap.VXLAN, Neighbour: true, Size: 28 + 50}, arp[8:]},
		{"a question over IPv6", endpoint6(1), vxlan(endpoint6(2)), arp, dataplane.Note{Codec: encap.VXLAN, Neighbour: true, Size: 48 + 50}, arp[8:]},
	} {
		c.want.Peer, c.want.From = endpoint(1).String(), netip.AddrPortFrom(c.from.Addr(), 61440)
		network.Inject(c.want.From, c.to, 0, c.datagram)
		select {
		case got := <-b.Notes():
			if diff := cmp.Diff(c.want, got, cmpopts.IgnoreUnexported(dataplane.Note{}, netip.AddrPort{})); diff != "" || got.From != c.want.From {
				t.Errorf("%s: from %s (-want +got):\n%s", c.name, got.From, diff)
			}
			if !bytes.Equal(got.Data(), c.data) {
				t.Errorf("%s: says %x, want %x", c.name, got.Data(), c.data)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%s: not noted", c.name)
		}
	}
	s := b.settled(t, 0, 0)
	if s.Notes != 9 || s.NotesLost != 0 || s.Peers[endpoint(1).String()] != (dataplane.PeerStats{}) {
		t.Errorf("noted %d, lost %d, traffic %+v", s.Notes, s.NotesLost, s.Peers)
	}

	// Of a stranger nothing is noted. Its probes are no packets, all else counts as one.
	stranger := netip.AddrPortFrom(endpoint(77).Addr(), 61440)
	network.Inject(stranger, endpoint(2), 0, udp.AppendControl(nil, message, 0))
	network.Inject(stranger, vxlan(endpoint(2)), 0, arp)
	s = b.settled(t, 0, 1)
	for end := time.Now().Add(10 * time.Second); s.Notes == 9 && time.Now().Before(end); {
		s = b.Stats() // the two come by different receivers
	}
	if s.Notes != 10 || s.NotesLost != 1 || len(b.Notes()) != 0 {
		t.Errorf("noted %d, lost %d, waiting %d, of a stranger", s.Notes-9, s.NotesLost, len(b.Notes()))
	}
	if diff := cmp.Diff(reasonCounts{dataplane.UnknownPeer: 1}, drops(s.Ingress)); diff != "" {
		t.Errorf("drops (-want +got):\n%s", diff)
	}
}

// frame is VXLAN with an Ethernet frame of these bytes.
func frame(t *testing.T, ethernet, payload string) []byte {
	t.Helper()
	vxlan := "08000000 00000700"
	b, err := hex.DecodeString(strings.ReplaceAll(vxlan+ethernet+payload, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// What nobody reads is lost, counted, and holds nothing up.
func TestNotesDoNotWait(t *testing.T) {
	network := dataplanetest.NewNetwork()
	b := newNode(t, network, 2, 1)
	const flood = 1000
	for i := range uint16(flood) {
		network.Inject(endpoint(1), endpoint(2), 0, new(encap.Tunnel).AppendControl(nil, []byte{byte(i >> 8), byte(i)}, 0))
	}
	p := udpPacket(t, pod(1, 10), pod(2, 20), 0, 100)
	network.Inject(endpoint(1), endpoint(2), 0, p)
	if got := b.device.Receive(t); !bytes.Equal(got, p) {
		t.Errorf("arrived as %x", got)
	}
	s := b.settled(t, 0, 1)
	kept := uint64(len(b.Notes()))
	if s.Notes != flood || kept == 0 || s.NotesLost != flood-kept {
		t.Errorf("noted %d, lost %d, %d wait", s.Notes, s.NotesLost, kept)
	}
	for i := range uint16(kept) { // the first ones, in order
		if n := <-b.Notes(); !bytes.Equal(n.Data(), []byte{byte(i >> 8), byte(i)}) {
			t.Fatalf("note %d says %x", i, n.Data())
		}
	}
}

// One peer that floods leaves room for the others.
func TestNotesOfOnePeerLeaveRoom(t *testing.T) {
	network := dataplanetest.NewNetwork()
	b := features{}.makeNode(t, network, 2, 1, 3)
	x := duplex{nodes: [2]*node{b, features{}.makeNode(t, network, 4)}}
	x.open(t)
	message := (&encap.Tunnel{Codec: encap.UDP}).AppendControl(nil, []byte("is anybody there?"), 0)
	const flood = 20_000
	read := 0
	for i := range flood {
		network.Inject(endpoint(1), endpoint(2), 0, message)
		if i%100 == 99 {
			x.run(t)
			for len(b.Notes()) > 0 {
				<-b.Notes()
				read++
			}
		}
	}
	network.Inject(endpoint(3), endpoint(2), 0, message)
	x.run(t)
	if len(b.Notes()) != 1 || (<-b.Notes()).Peer != endpoint(3).String() {
		t.Error("what another peer said is lost")
	}
	if s := b.Stats(); s.Notes != flood+1 || s.NotesLost != uint64(flood-read) || s.NotesLost < flood/2 {
		t.Errorf("%d of %d notes lost, and %d read", s.NotesLost, s.Notes, read)
	}
}
