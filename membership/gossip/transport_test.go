package gossip

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
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
	if _, err := over.Read(make([]byte, 1)); err == nil {
		t.Fatal("one more was served")
	}
	for range 2 { // closing twice frees one place
		_ = served[0].Close()
	}
	again := dialTo(t, tr)
	defer again.Close()
	_ = (<-tr.StreamCh()).Close()
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
