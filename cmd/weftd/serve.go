package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/weft-net/weft/cmd/internal/control"
	"github.com/weft-net/weft/cmd/internal/metrics"
	"github.com/weft-net/weft/cmd/internal/page"
)

// The paths beside those of the control API.
const (
	pathMetrics = "/metrics"
	pathHealth  = "/healthz" // 200 while the daemon goes on, whatever the network does: else it is to be restarted
	pathReady   = "/readyz"  // 200 while pods' packets are carried
	pathProfile = "/debug/pprof/"
)

// openListeners takes the control socket, and the addresses of the metrics and the status page, where
// they have one.
func (m *machine) openListeners() (err error) {
	if m.listener, err = control.Listen(m.config.Socket); err != nil {
		return err
	}
	m.keep(m.listener.Close)
	if at := m.config.MetricsAddress; at != "" {
		if m.observed, err = m.listen("metricsAddress", at); err != nil {
			return err
		}
		m.log.Info("metrics are served", "address", m.observed.Addr(), "pprof", m.config.Pprof)
	}
	return m.openPage()
}

// listen takes a TCP address, which the configuration has under key.
func (m *machine) listen(key, at string) (net.Listener, error) {
	l, err := net.Listen("tcp", at)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("%s %s (%s): another program has that port; choose another, or stop that program: %w", key, at, m.config.Source(key), err)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return nil, fmt.Errorf("%s %s (%s) is no address of this machine; take one that `ip address` shows: %w", key, at, m.config.Source(key), err)
	case err != nil:
		return nil, fmt.Errorf("%s %s (%s): %w", key, at, m.config.Source(key), err)
	}
	m.keep(l.Close)
	return l, nil
}

// present has all who ask be answered by d.
func (m *machine) present(d *daemon) {
	mux := http.NewServeMux()
	mux.Handle("/", control.Handler(d))
	mux.HandleFunc("POST "+pathTakeover, m.beTaken)
	mux.Handle("GET "+pathMetrics, metrics.Handler(d))
	mux.HandleFunc("GET "+pathHealth, func(w http.ResponseWriter, _ *http.Request) { verdict(w, d.progress()) })
	mux.HandleFunc("GET "+pathReady, func(w http.ResponseWriter, _ *http.Request) { verdict(w, d.unready()) })
	if m.config.Pprof {
		mux.HandleFunc("GET "+pathProfile, pprof.Index)
		mux.HandleFunc("GET "+pathProfile+"cmdline", pprof.Cmdline)
		mux.HandleFunc("GET "+pathProfile+"profile", pprof.Profile)
		mux.HandleFunc("GET "+pathProfile+"symbol", pprof.Symbol)
		mux.HandleFunc("GET "+pathProfile+"trace", pprof.Trace)
	}
	var handler http.Handler = mux
	m.handler.Store(&handler)
	m.shown.Store(d)
}

// verdict says that all is well, or why not, to a program that looks at the status alone and to a
// person.
func verdict(w http.ResponseWriter, err error) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if err == nil {
		fmt.Fprintln(w, "ok")
		return
	}
	w.WriteHeader(http.StatusServiceUnavailable)
	fmt.Fprintln(w, err)
}

// answer serves the control socket, and the addresses of the metrics and the page where there are
// such, until ctx is done.
func (m *machine) answer(ctx context.Context, group *errgroup.Group) {
	current := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (*m.handler.Load()).ServeHTTP(w, r) })
	serveHTTP(ctx, group, "the control API", m.listener, m.onSocket(current))
	if m.paged != nil {
		serveHTTP(ctx, group, "the status page", m.paged, page.Handler(current))
	}
	if m.observed == nil {
		return
	}
	// Who reaches this address has not been let in by a socket's mode: it shows, and changes nothing.
	shown := http.NewServeMux()
	for _, path := range []string{pathMetrics, pathHealth, pathReady} {
		shown.Handle("GET "+path, current)
	}
	if m.config.Pprof {
		shown.Handle("GET "+pathProfile, current)
	}
	serveHTTP(ctx, group, "metrics", m.observed, shown)
}

// serveHTTP serves h at l until ctx is done, and then gives the last answers some time.
func serveHTTP(ctx context.Context, group *errgroup.Group, what string, l net.Listener, h http.Handler) {
	server := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute}
	group.Go(func() error {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve %s: %w", what, err)
		}
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewell)
		defer cancel()
		if err := server.Shutdown(last); err != nil {
			return server.Close()
		}
		return nil
	})
}
