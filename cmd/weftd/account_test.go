//go:build netns

package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"net"
	"os/exec"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/cmd/internal/control"
)

// What a pod sends is either received by the other pod or under a named reason,
// at every stage, to the packet.
func TestAccountCloses(t *testing.T) {
	c := newCluster(t, 2)
	c.startAll()
	a, b := c.members[0], c.members[1]
	from, to := a.pod(10), b.pod(20)
	if err := transfer(t, from, to, 20<<20); err != nil {
		t.Fatal(err)
	}

	before := c.settled()
	server := listenUDP(t, to.Namespace)
	conn, err := dial(from.Namespace, "udp4", to.Addr, echoPort)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	// As fast as can be, so that the queues on the way overflow.
	const sent = 200_000
	packet := make([]byte, 100)
	for i := range uint64(sent) {
		binary.BigEndian.PutUint64(packet, i)
		if _, err := conn.Write(packet); err != nil {
			t.Fatal(err)
		}
	}
	after := c.settled()
	got := drain(t, server)

	egress := after[a].Egress.Received - before[a].Egress.Received
	tunDropped := after[a].Kernel.TunTxDropped - before[a].Kernel.TunTxDropped
	if egress+tunDropped != sent {
		t.Errorf("the pod sent %d packets; %d reached weftd and %d were dropped at its device", sent, egress, tunDropped)
	}
	forwarded := after[a].Egress.Forwarded - before[a].Egress.Forwarded
	ingress := after[b].Ingress.Received - before[b].Ingress.Received
	overflow := after[b].Kernel.SocketOverflow - before[b].Kernel.SocketOverflow
	if forwarded != ingress+overflow {
		t.Errorf("%d packets went out; %d came in and %d overflowed", forwarded, ingress, overflow)
	}
	delivered := after[b].Ingress.Forwarded - before[b].Ingress.Forwarded
	if lost := socketDrops(t, server); delivered != got+lost {
		t.Errorf("%d packets delivered; the pod has received %d and lost %d", delivered, got, lost)
	}
	t.Logf("sent %d, dropped at the device %d, overflowed %d, received %d", sent, tunDropped, overflow, got)
	checkCLI(t, a)
	checkCLI(t, b)
}

// drain counts what waits at a socket.
func drain(t *testing.T, c *net.UDPConn) (n uint64) {
	t.Helper()
	buf := make([]byte, 2048)
	for {
		if err := c.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(buf); err != nil {
			return n
		}
		n++
	}
}

// socketDrops is what the kernel dropped at c: SK_MEMINFO_DROPS.
func socketDrops(t *testing.T, c *net.UDPConn) uint64 {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var info [9]uint32
	size := uint32(unsafe.Sizeof(info))
	var errno unix.Errno
	err = raw.Control(func(fd uintptr) {
		_, _, errno = unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_MEMINFO,
			uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	})
	if err != nil || errno != 0 {
		t.Fatal(err, errno)
	}
	return uint64(info[8])
}

// checkCLI asks the shipped CLI for the account, as a user's script would.
func checkCLI(t *testing.T, m *member) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, "../../bin/weft", "--socket", m.socket, "drops", "--json").Output()
	if err != nil {
		t.Fatal(err)
	}
	var d control.Drops
	if err := json.Unmarshal(out, &d); err != nil {
		t.Fatalf("weft drops --json printed %q: %v", out, err)
	}
	for _, direction := range []control.Direction{d.Egress, d.Ingress} {
		sum := uint64(0)
		for _, n := range direction.Drops {
			sum += n
		}
		if sum != direction.Received-direction.Forwarded || direction.Received == 0 {
			t.Errorf("weft drops --json of %s does not sum: %+v", m, direction)
		}
	}
}
