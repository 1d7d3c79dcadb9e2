package gossip

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// listenSilent accepts streams and never answers.
func listenSilent(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l.Addr().String() // the kernel accepts on our behalf
}

func TestBindErrors(t *testing.T) {
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	for name, c := range map[string]struct {
		addr string
		want syscall.Errno
		fix  string
	}{
		"TCP port in use":   {tcp.Addr().String(), syscall.EADDRINUSE, "gossipPort"},
		"UDP port in use":   {udp.LocalAddr().String(), syscall.EADDRINUSE, "gossipPort"},
		"not our address":   {"192.0.2.77:7946", syscall.EADDRNOTAVAIL, "gossipAddr"},
		"unspecified":       {"0.0.0.0:7946", 0, "address of this machine"},
		"no address at all": {"", 0, "address of this machine"},
	} {
		t.Run(name, func(t *testing.T) {
			addr, _ := netip.ParseAddrPort(c.addr)
			_, err := New(Config{Store: memoryStore(newIdentity(t)), Addr: addr, Key: testKey})
			if err == nil || c.want != 0 && !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.fix) || strings.Contains(err.Error(), "\n") {
				t.Fatalf("error %v; want %v and %q on one line", err, c.want, c.fix)
			}
		})
	}
}

func TestNewRefuses(t *testing.T) {
	addr := netip.MustParseAddrPort("127.0.0.1:0")
	for name, c := range map[string]Config{
		"a short key":   {Addr: addr, Key: []byte("short")},
		"a 24 byte key": {Addr: addr, Key: make([]byte, 24)},
		"a bad name":    {Addr: addr, Key: testKey, Join: []string{"host:port"}},
	} {
		t.Run(name, func(t *testing.T) {
			c.Store = memoryStore(newIdentity(t))
			if _, err := New(c); err == nil {
				t.Fatal("opened")
			}
		})
	}
}

// One host has few places: its oldest stream gives way to its newest.
func TestInboundStreamsOfAHost(t *testing.T) {
	tr, err := listenAt(netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := tr.Shutdown(); err != nil {
			t.Error(err)
		}
	}()
	var served []net.Conn
	first := dialTo(t, tr.addr, "127.0.0.1")
	served = append(served, <-tr.StreamCh())
	for range maxPerHost {
		dialTo(t, tr.addr, "127.0.0.1")
		served = append(served, <-tr.StreamCh())
	}
	wantClosed(t, first)
	for range 2 { // closing twice frees one place
		_ = served[1].Close()
	}
	dialTo(t, tr.addr, "127.0.0.1")
	<-tr.StreamCh()
	if tr.total != maxPerHost || len(tr.conns) != maxPerHost || tr.inbound[netip.MustParseAddr("127.0.0.1")] != maxPerHost {
		t.Fatalf("%d counted, %d open; want %d", tr.total, len(tr.conns), maxPerHost)
	}
}

// Silent streams from many hosts, more than there are places for, keep no node out.
func TestSilentStreamsKeepNobodyOut(t *testing.T) {
	a := start(t, 1, Config{})
	for h := range 2 * maxInbound / maxPerHost {
		for range maxPerHost {
			dialTo(t, a.gossip.Addr(), fmt.Sprintf("127.0.2.%d", h+1))
		}
	}
	eventually(t, "every place is taken", func() bool { return a.gossip.Stats().Displaced > 0 })
	b := launch(t, 2, Config{Addr: netip.MustParseAddrPort("127.0.3.1:0"), Join: joining(a)}, newIdentity(t))
	if err := b.gossip.Sync(t.Context()); err != nil {
		t.Fatalf("a node does not get in: %v", err)
	}
	if n := strings.Count(a.log.String(), "too many connections"); n != 1 {
		t.Fatalf("said %d times", n)
	}
}

// Which stream goes for which.
func TestDispensable(t *testing.T) {
	host := func(n int) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, byte(n)}) }
	young, old := time.Now(), time.Now().Add(-2*patience)
	one := func(n int, opened time.Time, spoke bool) *stream {
		s := &stream{Conn: &net.TCPConn{}, from: host(n), opened: opened}
		s.spoke.Store(spoke)
		return s
	}
	for name, c := range map[string]struct {
		conns   []*stream
		from    int
		members []int
		want    int // index into conns; -1: the new one is refused
	}{
		"all young, of one host each":           {[]*stream{one(1, young, true), one(2, young, false)}, 3, nil, -1},
		"an old one that speaks":                {[]*stream{one(1, young, true), one(2, old, true)}, 3, nil, 1},
		"the silent of two old":                 {[]*stream{one(1, old.Add(-1), true), one(2, old, false)}, 3, nil, 1},
		"a host that has two":                   {[]*stream{one(1, old, false), one(2, young, true), one(2, young.Add(-1), true)}, 3, nil, 2},
		"not for a host that has as many":       {[]*stream{one(1, young, true), one(1, young, true), one(2, young, true)}, 2, nil, -1},
		"a stranger's for a member's":           {[]*stream{one(1, old, false), one(2, young, true)}, 1, []int{1}, 1},
		"no member's for a stranger's":          {[]*stream{one(1, old, false), one(1, old, false)}, 2, []int{1}, -1},
		"a member's where it has more of them":  {[]*stream{one(1, young, true), one(1, young, false)}, 2, []int{1, 2}, 1},
		"a stranger's before an old member's":   {[]*stream{one(1, old, false), one(2, old, true)}, 3, []int{1}, 1},
		"dialled streams are not to be touched": {[]*stream{{opened: old}}, 1, nil, -1},
	} {
		tr := &transport{conns: make(map[*stream]struct{}), inbound: make(map[netip.Addr]int)}
		for _, s := range c.conns {
			tr.conns[s] = struct{}{}
			tr.inbound[s.from]++
		}
		tr.inbound[host(c.from)]++
		members := make(map[netip.Addr]bool)
		for _, m := range c.members {
			members[host(m)] = true
		}
		got := tr.dispensable(host(c.from), members, func(s *stream) bool { return s.from.IsValid() })
		if i := slices.Index(c.conns, got); i != c.want {
			t.Errorf("%s: number %d goes, want %d", name, i, c.want)
		}
	}
}

// A stream that says nothing ends soon, and one that spoke has the time it was given.
func TestFirstByteIsDueSoon(t *testing.T) {
	tr, err := listenAt(netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tr.Shutdown() }()
	dialTo(t, tr.addr, "127.0.0.1")
	silent := <-tr.StreamCh()
	talker := dialTo(t, tr.addr, "127.0.0.1")
	spoken := <-tr.StreamCh()
	for _, s := range []net.Conn{silent, spoken} {
		if err := s.SetDeadline(time.Now().Add(10 * patience)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := talker.Write([]byte{1}); err != nil {
		t.Fatal(err)
	}
	if n, err := spoken.Read(make([]byte, 1)); n != 1 || err != nil {
		t.Fatalf("read %d bytes, %v", n, err)
	}
	began := time.Now()
	if _, err := silent.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) > 5*patience {
		t.Fatalf("the silent stream, after %s: %v", time.Since(began), err)
	}
	if _, err := talker.Write([]byte{2}); err != nil {
		t.Fatal(err)
	}
	if n, err := spoken.Read(make([]byte, 1)); n != 1 || err != nil {
		t.Fatalf("after that time the other reads %d bytes, %v", n, err)
	}
}

// wantClosed fails unless the far side has closed c.
func wantClosed(t *testing.T, c net.Conn) {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("it is still open: %v", err)
	}
}

// A dial that the other side leaves without an answer ends with Shutdown.
func TestShutdownInterruptsConnecting(t *testing.T) {
	tr, err := listenAt(netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	full := listenFull(t)
	failed := make(chan error, 1)
	go func() {
		_, err := tr.DialTimeout(full, time.Hour)
		failed <- err
	}()
	if err := tr.Shutdown(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-failed:
		if err == nil {
			t.Fatal("connected")
		}
	case <-time.After(10 * time.Second):
		t.Fatal("still connecting")
	}
}

// listenAt is a transport to which nobody is a member.
func listenAt(addr netip.AddrPort) (*transport, error) {
	return listen(addr, func() map[netip.Addr]bool { return nil }, func(netip.Addr) {})
}

// listenFull returns a port whose backlog is full: the kernel drops what connects.
func listenFull(t *testing.T) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	if err := errors.Join(syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), syscall.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	sa, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(sa.(*syscall.SockaddrInet4).Port)).String()
	for range 10 {
		c, err := net.DialTimeout("tcp", addr, 200*time.Millisecond)
		if err != nil {
			return addr
		}
		t.Cleanup(func() { _ = c.Close() })
	}
	t.Fatal("the backlog does not fill")
	return ""
}

// forward returns an address whose streams lead to another.
func forward(t *testing.T, to string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() { _ = l.Close(); wg.Wait() })
	wg.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				_ = in.Close()
				continue
			}
			for _, pair := range [][2]net.Conn{{in, out}, {out, in}} {
				wg.Go(func() {
					_, _ = io.Copy(pair[0], pair[1])
					_, _ = in.Close(), out.Close()
				})
			}
		}
	})
	return l.Addr().String()
}

// dialTo opens a stream from an address of this machine.
func dialTo(t *testing.T, to netip.AddrPort, from string) net.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: 10 * time.Second}
	c, err := d.Dial("tcp", to.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestStreamLengthIsBounded(t *testing.T) {
	tr, err := listenAt(netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tr.Shutdown() }()
	c := dialTo(t, tr.addr, "127.0.0.1")
	in := <-tr.StreamCh()
	in.(*stream).left = 10
	if _, err := c.Write(make([]byte, 20)); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(in); len(got) != 10 || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatalf("read %d bytes, %v", len(got), err)
	}
}
