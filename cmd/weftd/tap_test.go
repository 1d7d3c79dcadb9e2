//go:build netns

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/weft-net/weft/bench/topo"
	"github.com/weft-net/weft/cmd/internal/control"
)

// collect captures on m until there are enough packets, of traffic that is made once the capture has begun.
func (m *member) collect(r control.CaptureRequest, enough int, traffic func()) (all []control.CapturedPacket) {
	m.c.t.Helper()
	ctx, cancel := context.WithTimeout(m.c.t.Context(), patience)
	defer cancel()
	var made sync.WaitGroup
	defer made.Wait()
	_, err := m.client.Capture(ctx, r, func() error {
		made.Go(traffic)
		return nil
	}, func(p *control.CapturedPacket) error {
		all = append(all, *p)
		if len(all) == enough {
			cancel()
		}
		return nil
	})
	if len(all) < enough {
		m.c.t.Fatalf("%d packets captured, want %d (%v): %+v", len(all), enough, err, all)
	}
	return all
}

// Both ends of a ping are shown, inside and out, with the other node's name.
func TestCapture(t *testing.T) {
	c := newCluster(t, 2)
	c.startAll()
	n1, n2 := c.members[0], c.members[1]
	from, to := n1.pod(10), n2.pod(20)
	ping := func() {
		if out, err := from.Run(t.Context(), "ping", "-c", "1", "-W", "5", to.Addr.String()); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	}
	ping()
	seen := map[string]int{}
	for _, p := range n1.collect(control.CaptureRequest{Pods: []string{from.Addr.String()}, Node: "n2", Snaplen: 200}, 4, ping) {
		if p.Peer != "n2" || p.Drop != "" || len(p.Data) != p.Length {
			t.Errorf("captured %+v", p)
		}
		seen[p.Direction+" "+p.Layer]++
	}
	if len(seen) != 4 {
		t.Errorf("captured %v", seen)
	}

	dropped := n1.collect(control.CaptureRequest{Reasons: []string{"no-route"}, Snaplen: 200}, 1, func() {
		_, _ = from.Run(t.Context(), "ping", "-c", "1", "-W", "1", "10.244.9.9") // is answered by an ICMP error
	})
	if p := dropped[0]; p.Drop != "no-route" || p.Direction != control.CaptureOut {
		t.Errorf("captured %+v", p)
	}
	for _, r := range []control.CaptureRequest{{Reasons: []string{"spooofed"}}, {Pods: []string{"web"}}, {Node: "n9"}} {
		if _, err := n1.client.Capture(t.Context(), r, func() error { return errors.New("begun") }, nil); err == nil || err.Error() == "begun" {
			t.Errorf("%+v: %v", r, err)
		}
	}
}

// A capture whose client reads nothing neither stalls traffic nor takes memory, and is given up.
func TestCaptureThatNobodyReads(t *testing.T) {
	c := newCluster(t, 2)
	c.startAll()
	n1, n2 := c.members[0], c.members[1]
	from, to := n1.pod(10), n2.pod(20)
	var silent []net.Conn
	for range 4 {
		conn, err := net.Dial("unix", n1.socket)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := fmt.Fprint(conn, "GET /v1/capture?snaplen=65535 HTTP/1.1\r\nHost: weftd\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if begun, err := bufio.NewReaderSize(conn, 16).ReadString('\n'); err != nil || !strings.Contains(begun, " 200 ") {
			t.Fatalf("a capture that nobody reads: %q %v", begun, err)
		}
		silent = append(silent, conn)
	}
	one := control.CaptureRequest{Snaplen: 1}
	_, full := n1.client.Capture(t.Context(), one, func() error { return errors.New("there is room for one more") }, nil)
	if full == nil || !strings.Contains(full.Error(), "as many captures are under way") {
		t.Errorf("a fifth capture: %v", full)
	}
	before := n1.drops()
	run := c.transfer(from, to, 2*time.Second)
	if run < 10e6 {
		t.Errorf("%d bytes in 2 s while nobody read the captures", run)
	}
	if after := n1.drops(); after.Egress.Unaccounted() != 0 || after.Egress.Forwarded == before.Egress.Forwarded {
		t.Errorf("the account: %+v", after.Egress)
	}
	if rss := residentMB(t, n1.daemon.PID()); rss > 200 {
		t.Errorf("weftd has %d MB", rss)
	}
	c.eventually("the captures to be given up", func(ctx context.Context) error {
		room := errors.New("there is room again")
		_, err := n1.client.Capture(ctx, one, func() error { return room }, nil)
		if errors.Is(err, room) {
			return nil
		}
		_ = c.transfer(from, to, 200*time.Millisecond) // whom nothing is shown nobody is too slow for
		return err
	})
	for _, conn := range silent {
		conn.Close()
	}
}

// transfer sends as much as TCP carries in that time, and returns how many bytes arrived.
func (c *cluster) transfer(from, to *topo.Pod, lasts time.Duration) (bytes int64) {
	c.t.Helper()
	var l net.Listener
	var sender net.Conn
	err := to.Do(func() (err error) {
		l, err = net.Listen("tcp", netip.AddrPortFrom(to.Addr, 0).String())
		return err
	})
	if err != nil {
		c.t.Fatal(err)
	}
	defer l.Close()
	err = from.Do(func() (err error) {
		sender, err = net.DialTimeout("tcp", l.Addr().String(), patience)
		return err
	})
	if err != nil {
		c.t.Fatal(err)
	}
	receiver, err := l.Accept()
	if err != nil {
		c.t.Fatal(err)
	}
	defer receiver.Close()
	var group errgroup.Group
	group.Go(func() error {
		defer sender.Close()
		chunk := make([]byte, 128<<10)
		for end := time.Now().Add(lasts); time.Now().Before(end); {
			if _, err := sender.Write(chunk); err != nil {
				return err
			}
		}
		return nil
	})
	group.Go(func() (err error) {
		bytes, err = io.Copy(io.Discard, receiver)
		return err
	})
	if err := group.Wait(); err != nil {
		c.t.Fatal(err)
	}
	return bytes
}

// residentMB is the memory of a process.
func residentMB(t *testing.T, pid int) (mb int) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("/proc", fmt.Sprint(pid), "status"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	kb := 0
	if _, err := fmt.Sscan(rest, &kb); err != nil {
		t.Fatal(err)
	}
	return kb / 1024
}
