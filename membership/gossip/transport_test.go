package gossip

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
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

func TestInboundStreamsAreBounded(t *testing.T) {
	tr, err := listen(netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := tr.Shutdown(); err != nil {
			t.Error(err)
		}
	}()
	var served []net.Conn
	for range maxPerHost {
		c := dialTo(t, tr)
		defer c.Close()
		served = append(served, <-tr.StreamCh())
	}
	over := dialTo(t, tr)
	defer over.Close()
	if err := over.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := over.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("one more is served: %v", err)
	}
	for range 2 { // closing twice frees one place
		_ = served[0].Close()
	}
	again := dialTo(t, tr)
	defer again.Close()
	<-tr.StreamCh()
	if tr.total != maxPerHost || len(tr.conns) != maxPerHost {
		t.Fatalf("%d counted, %d open; want %d", tr.total, len(tr.conns), maxPerHost)
	}
}

// A dial that the other side leaves without an answer ends with Shutdown.
func TestShutdownInterruptsConnecting(t *testing.T) {
	tr, err := listen(netip.MustParseAddrPort("127.0.0.1:0"))
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

func dialTo(t *testing.T, tr *transport) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", tr.addr.String())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestStreamLengthIsBounded(t *testing.T) {
	tr, err := listen(netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tr.Shutdown() }()
	c := dialTo(t, tr)
	defer c.Close()
	in := <-tr.StreamCh()
	in.(*stream).left = 10
	if _, err := c.Write(make([]byte, 20)); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(in); len(got) != 10 || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatalf("read %d bytes, %v", len(got), err)
	}
}
