package encap

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/dataplane/offload"
)

// shapes are messages as the dataplane makes them, with each DS field in turn.
func shapes(to *Socket) (msgs []Message) {
	r := seeded(1)
	for i, s := range []struct{ segments, size, last, perSegment int }{
		{1, 1000, 1000, 1}, {1, 1000, 1000, 2}, {1, 0, 0, 1},
		{2, 1000, 1000, 1}, {2, 1000, 1, 2}, {3, 64, 41, 2},
		{MaxSegments, 1000, 999, 2}, {MaxSegments, 1, 1, 1}, {44, 1472, 1472, 2},
		{MaxSegments, MaxPayload / MaxSegments, MaxPayload / MaxSegments, 2},
	} {
		m := messages(r, to, s.segments, s.size, s.last, s.perSegment)
		m.DSField = []uint8{0, 0xb8, 2}[i%3]
		msgs = append(msgs, m)
	}
	return msgs
}

// Both ways at once, whatever the kernel is asked to do: the same datagrams arrive,
// in order.
func TestSendAndRecv(t *testing.T) {
	for _, addr := range loopbacks {
		for _, want := range offloads {
			t.Run(fmt.Sprintf("%s/%s", addr, want), func(t *testing.T) {
				a, b := pair(t, addr, want)
				var wg sync.WaitGroup
				var msgs [2][]Message
				var got [2][]datagram
				for i, way := range [][2]*Socket{{a, b}, {b, a}} {
					for range 5 {
						msgs[i] = append(msgs[i], shapes(way[1])...)
					}
					n := len(datagramsOf(msgs[i]))
					wg.Go(func() { send(t, way[0], msgs[i]) })
					wg.Go(func() { got[i] = receive(t, way[1], n) })
				}
				wg.Wait()
				for i := range msgs {
					checkShapes(t, got[i], msgs[i], want)
				}
			})
		}
	}
}

func checkShapes(t *testing.T, got []datagram, msgs []Message, want offload.Set) {
	t.Helper()
	compare(t, got, msgs)
	i, together := 0, 0
	for _, m := range msgs {
		for range m.Segments {
			if i < len(got) && got[i].ds != m.DSField {
				t.Errorf("datagram %d arrives with DS field %#02x, sent with %#02x", i, got[i].ds, m.DSField)
				return
			}
			i++
		}
		if m.Lost != 0 || m.Err != nil {
			t.Errorf("lost %d: %v", m.Lost, m.Err)
		}
	}
	for _, d := range got {
		together = max(together, d.with)
	}
	// The loopback device hands over what was sent in one as it is.
	if most := map[bool]int{true: MaxSegments, false: 1}[want == offload.All]; together != most {
		t.Errorf("with %s, %d datagrams arrive at once, want %d", want, together, most)
	}
}

// Several threads send from the same descriptors.
func TestWorkersSendAtOnce(t *testing.T) {
	const workers = 3
	from, to := listen(t, "127.0.0.1", workers, offload.All), listen(t, "127.0.0.1", 1, offload.All).Sockets()[0]
	var wg sync.WaitGroup
	n := 0
	for i, s := range from.Sockets() {
		var msgs []Message
		for j := range 300 {
			m := message(to, []byte{byte(i), byte(j >> 8), byte(j)})
			m.Flow = uint32(j % 16)
			msgs = append(msgs, m)
		}
		n += len(msgs)
		wg.Go(func() { send(t, s, msgs) })
	}
	seen := map[string]bool{}
	for _, d := range receive(t, to, n) {
		seen[string(d.bytes)] = true
	}
	wg.Wait()
	if len(seen) != n {
		t.Errorf("%d different datagrams of %d arrived", len(seen), n)
	}
}

func TestRecvWhereThereIsNothing(t *testing.T) {
	_, s := pair(t, "127.0.0.1", offload.All)
	if n, err := s.Recv(0, []Received{{Buf: make([]byte, 100)}}); n != 0 || err != nil {
		t.Errorf("Recv = %d %v", n, err)
	}
}

func TestEmptyBatches(t *testing.T) {
	_, s := pair(t, "127.0.0.1", offload.All)
	if n, err := s.Send(nil); n != 0 || err != nil || s.Full() != -1 {
		t.Errorf("Send of nothing = %d %v", n, err)
	}
	if n, err := s.Recv(0, nil); n != 0 || err != nil {
		t.Errorf("Recv into nothing = %d %v", n, err)
	}
}

// Every DS field goes over the wire, ECN included, and none sticks to the
// message headers that the next batch uses.
func TestDSField(t *testing.T) {
	for _, addr := range loopbacks {
		a, b := pair(t, addr, offload.All)
		for _, ds := range []func(i int) uint8{
			func(i int) uint8 { return uint8(i) },
			func(i int) uint8 { return 0 },
			func(i int) uint8 { return uint8(255 - i) },
		} {
			msgs := make([]Message, 256)
			for i := range msgs {
				msgs[i] = messages(seeded(0), b, 1+i%3, 10, 10, 1)
				msgs[i].DSField = ds(i)
			}
			send(t, a, msgs)
			got := receive(t, b, len(datagramsOf(msgs)))
			for i, m := range msgs {
				for range m.Segments {
					if len(got) == 0 || got[0].ds != ds(i) {
						t.Fatalf("%s: sent %#02x, received %v", addr, ds(i), got)
					}
					got = got[1:]
				}
			}
		}
	}
}

func TestTruncated(t *testing.T) {
	a, b := pair(t, "127.0.0.1", offload.All)
	for _, size := range []int{99, 100, 101, 60000} {
		send(t, a, []Message{message(b, make([]byte, size))})
		poll(t, unix.POLLIN, b.Receivers()[0].FD)
		msgs := []Received{{Buf: make([]byte, 100)}}
		n, err := b.Recv(0, msgs)
		if n != 1 || err != nil || msgs[0].N != min(size, 100) || msgs[0].SegmentSize != msgs[0].N {
			t.Errorf("a datagram of %d bytes in a buffer of 100: %d %v, N %d, SegmentSize %d", size, n, err, msgs[0].N, msgs[0].SegmentSize)
		}
	}
}

// What one message may have goes through as one.
func TestLargestMessage(t *testing.T) {
	for _, addr := range loopbacks {
		a, b := pair(t, addr, offload.All)
		const size = MaxPayload / 45 // bytes, which leave a few for one more
		msgs := []Message{messages(seeded(0), b, 46, size, MaxPayload-45*size, 2), message(b, make([]byte, MaxPayload))}
		send(t, a, msgs)
		if msgs[0].Err != nil || msgs[1].Err != nil {
			t.Fatalf("%s: %v, %v", addr, msgs[0].Err, msgs[1].Err)
		}
		got := receive(t, b, 47)
		compare(t, got, msgs)
		if got[0].with != 46 {
			t.Errorf("%s: %d datagrams arrive at once", addr, got[0].with)
		}
	}
}

// A datagram that the kernel refuses costs no other its place.
func TestSendSaysWhatWasRefused(t *testing.T) {
	for _, addr := range loopbacks {
		for _, want := range offloads {
			t.Run(fmt.Sprintf("%s/%s", addr, want), func(t *testing.T) {
				a, b := pair(t, addr, want)
				r := seeded(2)
				fate := map[int]error{0: ErrTooBig, 5: ErrTooBig, 6: ErrTooBig, 7: ErrRefused, Batch - 1: ErrRefused, Batch: ErrTooBig, 299: ErrTooBig}
				msgs := make([]Message, 300)
				var through []Message
				for i := range msgs {
					msgs[i] = messages(r, b, 1+i%3, 500, 1+i, 1+i%2)
					msgs[i].Lost, msgs[i].Err = 99, ErrFull // left over from an earlier use
					switch fate[i] {
					case ErrTooBig:
						msgs[i] = message(b, make([]byte, MaxDatagram))
					case ErrRefused:
						msgs[i].Addr = unspecifiedPort(msgs[i])
					default:
						through = append(through, msgs[i])
					}
				}
				send(t, a, msgs)
				for i, m := range msgs {
					lost := 0
					if fate[i] != nil {
						lost = m.Segments
					}
					if !errors.Is(m.Err, fate[i]) || m.Lost != lost {
						t.Errorf("message %d: lost %d: %v, want %d: %v", i, m.Lost, m.Err, lost, fate[i])
					}
				}
				compare(t, receive(t, b, len(datagramsOf(through))), through)
				if on := a.port.Features(); on != b.port.Features() {
					t.Errorf("on is only %s", on)
				}
			})
		}
	}
}

// A node that is down answers with ICMP, which anyone can forge: it is no error
// of the socket.
func TestUnreachablePeerHarmsNothing(t *testing.T) {
	for _, addr := range loopbacks {
		a, b := pair(t, addr, offload.All)
		_, down := pair(t, addr, 0)
		lost := message(down, []byte("lost"))
		if err := down.port.Close(); err != nil {
			t.Fatal(err)
		}
		for range 10 {
			msgs := []Message{message(b, []byte("datagram")), lost}
			send(t, a, msgs)
			if msgs[0].Err != nil || msgs[1].Err != nil {
				t.Errorf("%s: %v, %v", addr, msgs[0].Err, msgs[1].Err)
			}
			compare(t, receive(t, b, 1), msgs[:1])
			send(t, b, []Message{message(a, []byte("reply"))})
			receive(t, a, 1)
		}
	}
}

func TestSendAndRecvAllocateNothing(t *testing.T) {
	for _, addr := range loopbacks {
		for _, want := range offloads {
			a, b := pair(t, addr, want)
			out, in := make([]Message, 40), make([]Received, Batch)
			n := 0
			for i := range out {
				out[i] = messages(seeded(0), b, 1+i%3, 100, 90, 2)
				out[i].DSField = uint8(i)
				n += len(bytes.Join(out[i].Pieces, nil))
			}
			for i := range in {
				in[i].Buf = make([]byte, 2000)
			}
			if allocs := testing.AllocsPerRun(100, func() {
				if sent, err := a.Send(out); sent != len(out) || err != nil {
					t.Fatal(sent, err)
				}
				for got := 0; got < n; {
					k, err := b.Recv(0, in)
					if err != nil {
						t.Fatal(err)
					}
					for i := range in[:k] {
						got += in[i].N
					}
				}
			}); allocs != 0 {
				t.Errorf("%s, %s: %v allocations for a batch there", addr, want, allocs)
			}
		}
	}
}
