package encap

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/dataplane/offload"
)

// unspecifiedPort is where nothing can be sent to: the kernel says EINVAL.
func unspecifiedPort(m Message) netip.AddrPort { return netip.AddrPortFrom(m.Addr.Addr(), 0) }

// segmented says whether the kernel is asked to cut one of the messages.
func segmented(h *mmsghdr) bool { return h.hdr.Iovlen > 1 && h.hdr.Controllen > 0 }

// Where the underlay turns out not to segment, the messages go datagram by
// datagram from then on, and none is lost or overtaken.
func TestEIOReplays(t *testing.T) {
	for _, addr := range loopbacks {
		for refusedAt := range 4 {
			a, b := pair(t, addr, offload.All)
			cuts := 0
			a.sendmmsg = func(fd int, msgs []mmsghdr) (int, unix.Errno) {
				for i := range msgs {
					if segmented(&msgs[i]) {
						if cuts++; cuts > refusedAt && i == 0 {
							return 0, unix.EIO
						} else if cuts > refusedAt {
							return sendmmsg(fd, msgs[:i])
						}
					}
				}
				return sendmmsg(fd, msgs)
			}
			r := seeded(3)
			var msgs []Message
			for i := range 30 {
				msgs = append(msgs, messages(r, b, 1+i*2%7, 800, 700, 2))
			}
			send(t, a, msgs)
			for i, m := range msgs {
				if m.Lost != 0 || m.Err != nil {
					t.Errorf("message %d: lost %d: %v", i, m.Lost, m.Err)
				}
			}
			compare(t, receive(t, b, len(datagramsOf(msgs))), msgs)

			why := a.port.Refused()[offload.GSO]
			if a.port.Features() != offload.Of(offload.GRO) || len(a.port.Refused()) != 1 || !errors.Is(why, unix.EIO) || !strings.Contains(why.Error(), "ethtool -K") {
				t.Errorf("on: %s; refused: %v", a.port.Features(), a.port.Refused())
			}
			cuts = 0
			send(t, a, msgs)
			compare(t, receive(t, b, len(datagramsOf(msgs))), msgs)
			if cuts != 0 {
				t.Errorf("after it was refused, the kernel is asked %d times more", cuts)
			}
		}
	}
}

// Of one message that has no memory, all is lost, and of no other.
func TestNoMemoryIsFull(t *testing.T) {
	for _, errno := range []unix.Errno{unix.ENOBUFS, unix.ENOMEM} {
		for _, want := range offloads {
			a, b := pair(t, "127.0.0.1", want)
			r := seeded(4)
			msgs := []Message{messages(r, b, 2, 80, 80, 1), messages(r, b, 3, 90, 80, 1), messages(r, b, 4, 80, 80, 1)}
			a.sendmmsg = func(fd int, hdrs []mmsghdr) (int, unix.Errno) {
				for i := range hdrs {
					if at := hdrs[i].hdr.Iov.Base; at != &msgs[1].Pieces[0][0] && at != &msgs[1].Pieces[1][0] && at != &msgs[1].Pieces[2][0] {
						continue
					}
					if i > 0 {
						return sendmmsg(fd, hdrs[:i])
					}
					return 0, errno
				}
				return sendmmsg(fd, hdrs)
			}
			send(t, a, msgs)
			if msgs[0].Lost != 0 || msgs[1].Lost != 3 || !errors.Is(msgs[1].Err, ErrFull) || msgs[2].Lost != 0 {
				t.Errorf("%s, %s: lost %d, %d, %d; %v", errno, want, msgs[0].Lost, msgs[1].Lost, msgs[2].Lost, msgs[1].Err)
			}
			through := []Message{msgs[0], msgs[2]}
			compare(t, receive(t, b, 6), through)
			if a.port.Features() != b.port.Features() {
				t.Errorf("on is only %s", a.port.Features())
			}
		}
	}
}

// interrupted makes s send as badly as a kernel may: a few of what it is given, or
// nothing for now. It returns how often there was nothing.
func interrupted(s *Socket, r *rand.Rand) (full *int) {
	full = new(int)
	s.sendmmsg = func(fd int, msgs []mmsghdr) (int, unix.Errno) {
		n := min(r.IntN(3), len(msgs))
		if n == 0 {
			*full++
			return 0, unix.EAGAIN
		}
		return sendmmsg(fd, msgs[:n])
	}
	return full
}

// A send that stops anywhere goes on where it stopped, within a message too.
func TestSendGoesOn(t *testing.T) {
	for seed := range byte(20) {
		for _, want := range []offload.Set{0, offload.All} {
			source := seeded(seed)
			r := rand.New(source)
			a, b := pair(t, "127.0.0.1", want)
			full := interrupted(a, r)
			var msgs []Message
			for range 40 {
				n := 1 + r.IntN(8)
				msgs = append(msgs, messages(source, b, n, 300, 1+r.IntN(300), 1+r.IntN(2)))
			}
			msgs[20].Addr = unspecifiedPort(msgs[20])
			through := append(append([]Message(nil), msgs[:20]...), msgs[21:]...)

			short := 0
			for left := msgs; len(left) > 0; {
				n, err := a.Send(left)
				if err != nil {
					t.Fatal(err)
				}
				if left = left[n:]; len(left) > 0 {
					if short++; a.Full() != a.port.out[0] {
						t.Fatalf("Full = %d after a short Send", a.Full())
					}
				}
			}
			if short != *full || short == 0 || a.Full() != -1 {
				t.Errorf("seed %d: Send was short %d times, the kernel full %d times; Full = %d", seed, short, *full, a.Full())
			}
			for i, m := range msgs {
				if i == 20 && (m.Lost != m.Segments || !errors.Is(m.Err, ErrRefused)) || i != 20 && (m.Lost != 0 || m.Err != nil) {
					t.Errorf("seed %d: message %d of %d datagrams: lost %d: %v", seed, i, m.Segments, m.Lost, m.Err)
				}
			}
			compare(t, receive(t, b, len(datagramsOf(through))), through)
		}
	}
}

// One system call takes what leaves from one source port one after the other, as
// far as the memory for it reaches.
func TestSystemCalls(t *testing.T) {
	a, b := pair(t, "127.0.0.1", offload.All)
	var calls []int
	a.sendmmsg = func(fd int, msgs []mmsghdr) (int, unix.Errno) {
		calls = append(calls, len(msgs))
		return len(msgs), 0 // where it goes is of no interest
	}
	small, large := message(b, []byte("datagram")), messages(seeded(0), b, MaxSegments, 100, 100, 2)
	flow := func(m Message, f uint32) Message { m.Flow = f; return m }
	many := func(m Message, n int) (all []Message) {
		for range n {
			all = append(all, m)
		}
		return all
	}
	for _, c := range []struct {
		what string
		msgs []Message
		want []int
	}{
		{"one flow", many(small, 300), []int{Batch, Batch, 44}},
		{"full messages", many(large, 20), []int{16, 4}},
		{"flows in turn", []Message{flow(small, 1), flow(small, 2), flow(small, 2+sourcePorts), flow(small, 1)}, []int{1, 2, 1}},
	} {
		calls = nil
		send(t, a, c.msgs)
		if len(calls) != len(c.want) {
			t.Fatalf("%s: calls of %v messages, want %v", c.what, calls, c.want)
		}
		for i := range calls {
			if calls[i] != c.want[i] {
				t.Errorf("%s: calls of %v messages, want %v", c.what, calls, c.want)
			}
		}
	}
}
