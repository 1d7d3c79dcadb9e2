//go:build netns

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/weft-net/weft/cmd/internal/control"
)

// What Prometheus is given of a real cluster with traffic is what `weft drops` says, and has every family that
// the dashboard and the alerts ask for.
func TestMetrics(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	a, b := c.members[0], c.members[1]
	a.start("--metrics-address", "198.51.100.1:8286", "--pprof", "--segments", "name=office vni=100")
	b.start()
	c.converged()
	from, to := a.pod(10), b.pod(20)
	if err := transfer(t, from, to, 20<<20); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, _ = from.Run(ctx, "ping", "-c", "1", "-W", "1", "10.244.99.1") // of no node: a drop

	var series map[*member]map[string]float64
	account := c.settled()
	c.eventually("a scrape without traffic meanwhile", func(context.Context) error {
		series = map[*member]map[string]float64{a: a.scrape(), b: b.scrape()}
		before := account
		if account = c.settled(); fmt.Sprint(account) != fmt.Sprint(before) {
			return fmt.Errorf("packets were moving")
		}
		return nil
	})
	for _, m := range c.members {
		got := series[m]
		for name, d := range map[string]control.Direction{"egress": account[m].Egress, "ingress": account[m].Ingress} {
			sum := got[`weft_forwarded_packets_total{direction="`+name+`"}`]
			for reason, n := range d.Drops {
				dropped := got[fmt.Sprintf(`weft_drops_total{direction="%s",reason="%s"}`, name, reason)]
				if sum += dropped; dropped != float64(n) {
					t.Errorf("%s %s: %v packets dropped as %s, weft drops says %d", m, name, dropped, reason, n)
				}
			}
			if received := got[`weft_received_packets_total{direction="`+name+`"}`]; received != float64(d.Received) || received != sum || received == 0 {
				t.Errorf("%s %s: %v packets received, forwarded and dropped %v; weft drops says %d", m, name, received, sum, d.Received)
			}
		}
		if got[`weft_forwarded_bytes_total{direction="egress"}`] < 1000 || got["weft_tun_read_packets_count"] == 0 || got["weft_underlay_receive_datagrams_sum"] == 0 {
			t.Errorf("%s: no bytes, reads or receives: %v", m, got)
		}
	}
	if series[a][`weft_drops_total{direction="egress",reason="no-route"}`] == 0 {
		t.Error("the packet to nobody is not among the drops")
	}
	if n := series[a][`weft_tun_superpackets_total{direction="egress"}`]; n == 0 {
		t.Error("20 MB of TCP came without superpackets")
	}

	a.lint()
	families := make(map[string]bool)
	for name := range series[a] {
		families[regexp.MustCompile(`^\w+`).FindString(name)] = true
	}
	for _, file := range []string{"monitoring/dashboard.json", "monitoring/alerts.yaml"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range regexp.MustCompile(`\b(weft|process|go)_[a-z_]+\b`).FindAllString(string(text), -1) {
			if !families[name] {
				t.Errorf("%s uses %s, which weftd does not have", file, name)
			}
		}
	}
	checkObserved(t, a, b)
}

// lint has Prometheus judge what weft metrics prints.
func (m *member) lint() {
	m.c.t.Helper()
	text, err := m.client.Metrics(context.Background())
	if err != nil {
		m.c.t.Fatal(err)
	}
	cmd := exec.Command("promtool", "check", "metrics")
	cmd.Stdin = bytes.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil || bytes.Contains(out, []byte("weft_")) {
		m.c.t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
}

// scrape is what weft metrics prints, by series.
func (m *member) scrape() map[string]float64 {
	m.c.t.Helper()
	text, err := m.client.Metrics(context.Background())
	if err != nil {
		m.c.t.Fatal(err)
	}
	series := make(map[string]float64)
	for line := range strings.Lines(string(text)) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), "} ")
		if name += "}"; !ok {
			name, value, _ = strings.Cut(strings.TrimSpace(line), " ")
		}
		if n, err := strconv.ParseFloat(value, 64); err == nil && !strings.HasPrefix(line, "#") {
			series[name] = n
		}
	}
	return series
}

// checkObserved asks a over the network, and b over its socket, for all that is served and for what is not.
func checkObserved(t *testing.T, a, b *member) {
	t.Helper()
	network := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(_ context.Context, _, addr string) (conn net.Conn, err error) {
		err = b.Do(func() error {
			conn, err = net.DialTimeout("tcp", addr, patience)
			return err
		})
		return conn, err
	}}}
	socket := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(context.Context, string, string) (net.Conn, error) {
		return net.DialTimeout("unix", b.socket, patience)
	}}}
	for _, r := range []struct {
		client *http.Client
		method string
		path   string
		want   int
	}{
		{network, "GET", "/metrics", 200}, {network, "GET", "/healthz", 200}, {network, "GET", "/readyz", 200}, {network, "HEAD", "/readyz", 200},
		{network, "GET", "/debug/pprof/", 200}, {network, "GET", "/debug/pprof/goroutine", 200},
		{network, "GET", "/v1/status", 404}, {network, "POST", "/v1/leave", 404}, {network, "GET", "/v1/keys/export", 404}, {network, "GET", "/", 404},
		{network, "POST", "/metrics", 405}, {network, "GET", "/metrics/../v1/status", 404},
		{socket, "GET", "/metrics", 200}, {socket, "GET", "/healthz", 200}, {socket, "GET", "/readyz", 200}, {socket, "GET", "/v1/status", 200},
		{socket, "GET", "/debug/pprof/", 404}, {socket, "GET", "/nowhere", 404},
	} {
		req, err := http.NewRequestWithContext(t.Context(), r.method, "http://198.51.100.1:8286"+r.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if r.client == socket {
			req.Host = "localhost"
		}
		resp, err := r.client.Do(req)
		if err != nil {
			t.Errorf("%s %s: %v", r.method, r.path, err)
			continue
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != r.want {
			t.Errorf("%s %s: status %d, want %d: %s", r.method, r.path, resp.StatusCode, r.want, body)
		}
	}
}
