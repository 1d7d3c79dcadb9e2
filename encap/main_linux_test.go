package encap

import (
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// loopbacks are the addresses that every test of a socket runs over.
var loopbacks = []string{"127.0.0.1", "::1"}

// fuse ends a test that would wait for ever for a datagram.
const fuse = 30 * time.Second

// listen opens a socket on a free port of addr, for the length of the test.
func listen(t *testing.T, addr string) *Socket {
	t.Helper()
	s, err := Listen(netip.AddrPortFrom(netip.MustParseAddr(addr), 0))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	if err := s.conn.SetDeadline(time.Now().Add(fuse)); err != nil {
		t.Fatal(err)
	}
	return s
}

// send sends msgs, all of which must at least be tried.
func send(t *testing.T, s *Socket, msgs []Message) {
	t.Helper()
	if sent, err := s.Send(msgs); sent != len(msgs) || err != nil {
		t.Fatalf("Send = %d %v, want %d", sent, err, len(msgs))
	}
}

// receive receives n datagrams, in buffers of size bytes, as few as it takes
// calls of Recv with batch messages.
func receive(t *testing.T, s *Socket, n, batch, size int) (all []Message) {
	t.Helper()
	for len(all) < n {
		msgs := make([]Message, batch)
		for i := range msgs {
			msgs[i].Buf = make([]byte, size)
		}
		got, err := s.Recv(msgs)
		if err != nil {
			t.Errorf("after %d of %d datagrams: %v", len(all), n, err)
			return all
		}
		if got < 1 || got > min(batch, Batch) {
			t.Errorf("Recv into %d messages says %d", batch, got)
			return all
		}
		all = append(all, msgs[:got]...)
	}
	return all
}

// waitAsleep returns once a goroutine is in function and waits for the kernel.
func waitAsleep(t *testing.T, function string) {
	t.Helper()
	stacks := make([]byte, 1<<20)
	for end := time.Now().Add(fuse); time.Now().Before(end); runtime.Gosched() {
		for g := range strings.SplitSeq(string(stacks[:runtime.Stack(stacks, true)]), "\n\n") {
			state, _, _ := strings.Cut(g, "\n")
			if strings.Contains(state, "[IO wait") && strings.Contains(g, function+"(") {
				return
			}
		}
	}
	t.Fatalf("no goroutine waits in %s", function)
}
