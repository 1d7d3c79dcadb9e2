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
)

// The paths beside those of the control API.
const (
	pathMetrics = "/metrics"
	pathHealth  = "/healthz" // 200 while the daemon goes on, whatever the network does: else it is to be restarted
	pathReady   = "/readyz"  // 200 while pods' packets are carried
	pathProfile = "/debug/pprof/"
)

// openMetrics takes the address that the metrics are shown at beside the control socket, where
// there is to be one.
func (m *machine) openMetrics() (err error) {
	at := m.config.MetricsAddress
	if at == "" {
		return nil
	}
	m.observed, err = net.Listen("tcp", at)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("metricsAddress %s (%s): another program has that port; choose another, or stop that program: %w", at, m.config.Source("metricsAddress"), err)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("metricsAddress %s (%s) is no address of this machine; take one that `ip address` shows, or leave out the address, as in :8286: %w", at, m.config.Source("metricsAddress"), err)
	case err != nil:
		return fmt.Errorf("metricsAddress %s (%s): %w", at, m.config.Source("metricsAddress"), err)
	}
	m.keep(m.observed.Close)
	m.log.Info("metrics are served", "address", m.observed.Addr(), "pprof", m.config.Pprof)
	return nil
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

// answer serves the control socket, and the address of the metrics where there is one, until ctx is
// done.
func (m *machine) answer(ctx context.Context, group *errgroup.Group) {
	current := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (*m.handler.Load()).ServeHTTP(w, r) })
	serveHTTP(ctx, group, "the control API", m.listener, current)
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
