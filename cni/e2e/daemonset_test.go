//go:build netns && daemonset

package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"
)

func TestDaemonSet(t *testing.T) {
	m := readManifest(t)
	top := newTopology(t)
	a, b := newKubelet(t, top, 1, m), newKubelet(t, top, 2, m)
	t.Cleanup(func() {
		for _, k := range []*kubelet{a, b} {
			t.Logf("%s:\n%s", k.n, k.log("weftd"))
		}
	})
	start := time.Now()
	a.run()
	b.run()
	a.awaitReady()
	b.awaitReady()
	t.Log("ready after", time.Since(start))
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for _, args := range [][]string{{"status"}, {"peers"}, {"doctor"}} {
		out, err := a.exec(ctx, a.weft.container, append([]string{"/usr/bin/weft"}, args...)...)
		t.Log(out, err)
	}
	a.n.eventually("pod network", a.ready)
	b.n.eventually("pod network", b.ready)
	first, far := a.serve("first"), b.serve("far")
	t.Log(first.addrs, far.addrs)
	t.Log(far.r.n.run("ip", "-o", "addr"))
	out, err := first.exec(ctx, "ping", "-c", "2", far.addrs[0].String())
	t.Log(out, err)
	t.Log(first.fetch(ctx, netip.AddrPortFrom(far.addrs[0], webPort)))
	t.Log(far.exec(ctx, "sh", "-c", "nc -ll -p 9000 -e cat >/dev/null 2>&1 &"))
	t.Log(first.exec(ctx, "sh", "-c", "(while :; do cut -d' ' -f1 /proc/uptime; sleep 0.02; done | nc "+far.addrs[0].String()+" 9000 | while read t; do read u x </proc/uptime; echo $t $u; done > /tmp/back) >/dev/null 2>&1 &"))
	for range 2 {
		time.Sleep(2 * time.Second)
		t.Log(a.n.run("ip", "-o", "addr", "show", "dev", "weft0"))
		s := time.Now()
		_, err := a.call(ctx, "StopContainer", message(nil).text(1, a.weft.container).number(2, 30))
		t.Log(err, time.Since(s))
		t.Log(a.n.run("ip", "-o", "addr"))
		t.Log(a.n.run("ip", "route"))
		a.removeSandbox(ctx, a.weft.sandbox)
		t.Log("removed", time.Since(s))
		a.run()
		t.Log("run", time.Since(s))
		a.awaitReady()
		t.Log("ready", time.Since(s))
		t.Log(a.n.run("ip", "-o", "addr", "show", "dev", "weft0"))
		time.Sleep(3 * time.Second)
	}
	out, err = first.exec(ctx, "cat", "/tmp/back")
	t.Log(err)
	gaps(t, out)
	os.WriteFile("/tmp/im/back.txt", []byte(out), 0o644)
	t.Fail()
}

func gaps(t *testing.T, out string) {
	var last float64
	n := 0
	for line := range strings.Lines(out) {
		var sent, got float64
		fmt.Sscan(line, &sent, &got)
		if n > 0 && got-last > 0.15 {
			t.Logf("gap %.2f s", got-last)
		}
		last = got
		n++
	}
	t.Log(n, "lines")
}
