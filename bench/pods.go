//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/weft-net/weft/bench/topo"
)

// serve starts a program in the server's pod and waits until it listens on the TCP port. The
// caller must kill the program.
func (n *network) serve(ctx context.Context, port int, args ...string) (*topo.Process, error) {
	p, err := n.server.pod.Start(args...)
	if err != nil {
		return nil, err
	}
	err = n.waitUntil(ctx, startTimeout, func(context.Context) error {
		select {
		case <-p.Done():
			return fmt.Errorf("it has ended: %s", n.lastWords(p))
		default:
			return n.server.pod.Do(func() error { return listening(port) })
		}
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s does not listen on port %d: %w", args[0], port, err), p.Kill())
	}
	return p, nil
}

// listening looks for a listening TCP socket in the network namespace of this thread.
func listening(port int) error {
	for _, file := range []string{"tcp", "tcp6"} {
		sockets, err := os.ReadFile("/proc/thread-self/net/" + file)
		if err != nil {
			return err
		}
		if hasListener(string(sockets), port) {
			return nil
		}
	}
	return errors.New("no socket listens")
}

// hasListener reads /proc/net/tcp or tcp6: in field 2 address and port, in field 4 the state
// (proc(5)).
func hasListener(sockets string, port int) bool {
	const listen = "0A" // TCP_LISTEN, net/tcp_states.h
	suffix := fmt.Sprintf(":%04X", port)
	for line := range strings.Lines(sockets) {
		fields := strings.Fields(line)
		if len(fields) > 3 && strings.HasSuffix(fields[1], suffix) && fields[3] == listen {
			return true
		}
	}
	return false
}

// iperf runs one iperf3 test from the client's pod to the server's, and returns what the
// client printed.
func (n *network) iperf(ctx context.Context, length time.Duration, args ...string) (out string, err error) {
	const slack = 10 * time.Second // to connect, and to exchange results over a full queue
	ctx, cancel := context.WithTimeoutCause(ctx, length+slack, fmt.Errorf("iperf3 has not finished within %s", length+slack))
	defer cancel()
	server, err := n.serve(ctx, processPort, "iperf3", "--server", "--one-off")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, server.Kill()) }()
	return n.client.pod.Run(ctx, append([]string{"iperf3", "--client", n.target().String(), "--json"}, args...)...)
}

// seconds formats a length for a program that takes whole seconds.
func seconds(d time.Duration) string { return fmt.Sprint(int(d.Round(time.Second).Seconds())) }
