//go:build netns

package page

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weft-net/weft/bench/topo"
	"github.com/weft-net/weft/cmd/internal/control"
)

// patience bounds the life of a browser.
const patience = 60 * time.Second

// browser is a Chromium in a namespace where there is nothing but this test's server.
type browser struct {
	*topo.Namespace
	t   *testing.T
	url string
}

// newBrowser serves h in a namespace of its own until the test ends.
func newBrowser(t *testing.T, h http.Handler) browser {
	t.Helper()
	top, err := topo.New("page")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := top.Close(); err != nil {
			t.Error(err)
		}
	})
	node, err := top.Node("n1")
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(h)
	server.Listener.Close()
	if err := node.Do(func() (err error) {
		server.Listener, err = net.Listen("tcp", "127.0.0.1:8286")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	server.Start()
	t.Cleanup(server.Close)
	return browser{node.Namespace, t, server.URL}
}

// dom opens the page and returns what the document is when forMS milliseconds have passed, on the browser's clock
// that runs as fast as it can. Whatever the browser's console says fails the test, but for requests that failed.
func (b browser) dom(forMS string, flags ...string) string {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	profile, err := os.MkdirTemp("", "weft-chromium-")
	if err != nil {
		b.t.Fatal(err)
	}
	defer os.RemoveAll(profile)
	args := append([]string{"chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking",
		"--disable-component-update", "--no-first-run", "--user-data-dir=" + profile, "--enable-logging=stderr", "--window-size=1280,1400",
		"--virtual-time-budget=" + forMS, "--dump-dom"}, flags...)
	cmd := b.Command(ctx, append(args, b.url+"/")...)
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		b.t.Fatalf("%v: %s", err, said.String())
	}
	for line := range strings.Lines(said.String()) {
		if strings.Contains(line, "CONSOLE") && !strings.Contains(line, "Failed to load resource") {
			b.t.Error(line)
		}
	}
	return string(out)
}

// has tells which of texts are not in the document.
func has(t *testing.T, dom string, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if !strings.Contains(dom, text) {
			t.Errorf("the page has no %s", text)
		}
	}
	if t.Failed() {
		t.Log(dom)
	}
}

func TestBrowser(t *testing.T) {
	t.Run("nobody else", func(t *testing.T) {
		has(t, newBrowser(t, Handler(control.Handler(example(0)))).dom("1500"), "No other node is known.", `<title>node0: ready · weft</title>`)
	})
	t.Run("three states", func(t *testing.T) {
		b := newBrowser(t, Handler(control.Handler(growing(example(4)))))
		dom := b.dom("4500")
		has(t, dom, "<span>node1</span>", ">down</span>", ">up, no data</span>", "no node that is up owns the destination", `class="way direct bad"`,
			">not counted</span>", "uso", ">live</p>")
		// How long is between two questions is up to the browser.
		if rate := regexp.MustCompile(`>[0-9.]+</span><small>Mb/s</small>`); !rate.MatchString(dom) {
			t.Error("the page has no rate")
		}
	})
	t.Run("300 peers", func(t *testing.T) {
		dom := newBrowser(t, Handler(control.Handler(example(300)))).dom("2500")
		has(t, dom, "node300", `id="filter-label"`)
		if rows, dots := strings.Count(dom, `<th class="" scope="row"`)+strings.Count(dom, `<th scope="row"`), strings.Count(dom, `<g data-id=`); rows < 300 || dots != 300 {
			t.Errorf("%d rows and %d dots", rows, dots)
		}
	})
	t.Run("hostile names", func(t *testing.T) {
		e := example(2)
		hostile := "<img src=x onerror=\"document.title='owned'\">"
		e.peers.Peers[0].Name, e.peers.Peers[0].Why, e.peers.Peers[1].Name = hostile, hostile, "a\u202egnp.exe\x1b[2J"
		e.status.State, e.status.Reason, e.status.Warnings = control.StateFenced, hostile, []string{hostile}
		dom := newBrowser(t, Handler(control.Handler(e))).dom("2500")
		has(t, dom, "&lt;img src=x onerror=", "a\ufffdgnp.exe\ufffd[2J", "<title>node0: fenced · weft</title>")
		if strings.Contains(dom, "<img") || strings.Contains(dom, "\u202e") {
			t.Error("a name became markup")
		}
	})
}

// TestDaemonGone takes the daemon away while its page is open, for good and for a while.
func TestDaemonGone(t *testing.T) {
	for name, c := range map[string]struct {
		back int32 // questions after which it answers again
		dom  []string
	}{
		"for good":    {1 << 30, []string{"weftd has not answered since", `class="stale"`, `class="live gone"`, "node1"}},
		"for a while": {9, []string{`id="trouble" class="trouble" role="alert" hidden=""`, `class="live">live`, "node1"}},
	} {
		t.Run(name, func(t *testing.T) {
			inner := Handler(control.Handler(example(2)))
			var asked atomic.Int32
			b := newBrowser(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if strings.HasPrefix(r.URL.Path, "/v1/") {
					if n := asked.Add(1); n > 6 && n < c.back {
						panic(http.ErrAbortHandler)
					}
				}
				inner.ServeHTTP(w, r)
			}))
			has(t, b.dom("8000"), c.dom...)
		})
	}
}

// growing has each peer of b that weft carries packets for send and receive 1 MB between two questions, which the
// page asks each second.
func growing(b *backend) control.Backend { return &grower{backend: b} }

type grower struct {
	*backend
	asked atomic.Uint64
}

func (g *grower) Peers() control.PeerList {
	n := g.asked.Add(1)
	list := control.PeerList{}
	for i, p := range g.peers.Peers {
		if p.Mode != "direct" {
			p.Tx.Bytes, p.Rx.Bytes = n*1e6, n*uint64(1e5*(i+1))
		}
		list.Peers = append(list.Peers, p)
	}
	return list
}
