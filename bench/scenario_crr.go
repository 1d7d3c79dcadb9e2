//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/weft-net/weft/bench/meter"
	"github.com/weft-net/weft/bench/report"
)

const httpPort = 8080

// crrScenario is one short TCP connection after the other by ab: connect, request, answer,
// close. The server is the standard library's, on a socket in the pod: the ones Debian has
// either fork for each connection or start themselves as a service when they are installed.
func crrScenario(l lengths) scenario {
	return scenario{
		name: "crr", about: "short TCP connections, one after the other", mtu: ethernetMTU,
		tools: []tool{ab},
		takes: l.crr + 100*time.Millisecond,
		measure: func(ctx context.Context, n *network) ([]report.Sample, error) {
			rate, err := n.connectionRate(ctx, l.crr)
			return []report.Sample{{Metric: "crr", Unit: "conn/s", Value: rate}}, err
		},
	}
}

func (n *network) connectionRate(ctx context.Context, length time.Duration) (rate float64, err error) {
	const slack = 10 * time.Second
	ctx, cancel := context.WithTimeoutCause(ctx, length+slack, fmt.Errorf("ab has not finished within %s", length+slack))
	defer cancel()
	address := fmt.Sprintf("%s:%d", n.server.pod.Addr, httpPort)
	stop, err := n.serveHTTP(address)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	// -n comes after -t, which sets it to 50,000.
	out, err := n.client.pod.Run(ctx, "ab", "-q", "-c", "1", "-t", seconds(length), "-n", "1000000", "http://"+address+"/")
	if err != nil {
		return 0, err
	}
	return meter.ParseAB(out)
}

// serveHTTP answers on a socket in the server's pod until stop.
func (n *network) serveHTTP(address string) (stop func() error, err error) {
	var listener net.Listener
	err = n.server.pod.Do(func() (err error) {
		listener, err = net.Listen("tcp4", address)
		return err
	})
	if err != nil {
		return nil, err
	}
	server := &http.Server{
		Handler:           http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") }),
		ReadHeaderTimeout: startTimeout,
	}
	server.SetKeepAlivesEnabled(false)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	return func() error {
		err := server.Close()
		if ended := <-served; !errors.Is(ended, http.ErrServerClosed) {
			err = errors.Join(err, ended)
		}
		return err
	}, nil
}
