//go:build linux

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/weft-net/weft/bench/topo"
)

// What `weft ... --json` prints, as far as it is needed here.
type (
	status struct {
		State   string    `json:"state"`
		Reason  string    `json:"reason"`
		Started time.Time `json:"started"`

		Underlay struct {
			MTU int `json:"mtu"`
		} `json:"underlay"`
	}
	peerList struct {
		Peers []struct {
			Name  string `json:"name"`
			State string `json:"state"`
			Mode  string `json:"mode"`
			Why   string `json:"why"`
		} `json:"peers"`
	}
	accounts struct {
		Egress  direction `json:"egress"`
		Ingress direction `json:"ingress"`
		Kernel  struct {
			SocketOverflow int64 `json:"socketOverflow"`
			TunTxDropped   int64 `json:"tunTxDropped"`
		} `json:"kernel"`
	}
	direction struct {
		Received  int64            `json:"received"`
		Forwarded int64            `json:"forwarded"`
		Drops     map[string]int64 `json:"drops"`
	}
)

// queryPatience bounds one question to a daemon.
const queryPatience = 30 * time.Second

// weft runs the CLI on m's node.
func (m *member) weft(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, queryPatience, fmt.Errorf("weft %s has not answered within %s", args[0], queryPatience))
	defer cancel()
	return m.Run(ctx, append([]string{m.c.binaries.weft, "--socket", m.socket}, args...)...)
}

// query asks m's daemon by way of the CLI, which answers with status 1 where something is wrong.
func query[T any](ctx context.Context, m *member, verb string) (answer T, err error) {
	out, err := m.weft(ctx, verb, "--json")
	if err != nil && out == "" {
		return answer, err
	}
	if err := json.Unmarshal([]byte(out), &answer); err != nil {
		return answer, fmt.Errorf("weft %s --json on %s: %w", verb, m, err)
	}
	return answer, nil
}

// wire makes a pod out of ns, and returns its address.
func (m *member) wire(ctx context.Context, name string, ns *topo.Namespace) (netip.Addr, error) {
	out, err := m.weft(ctx, "pod", "add", name, "--netns", ns.Path(), "--json")
	if err != nil {
		return netip.Addr{}, err
	}
	var answer struct {
		Addresses []netip.Addr `json:"addresses"`
	}
	if err := json.Unmarshal([]byte(out), &answer); err != nil || len(answer.Addresses) != 1 {
		return netip.Addr{}, fmt.Errorf("weft pod add on %s: %q: %w", m, out, err)
	}
	return answer.Addresses[0], nil
}

// seesAll checks that m is ready and has all others as peers, by a way that is chosen.
func (m *member) seesAll(ctx context.Context) error {
	s, err := query[status](ctx, m, "status")
	if err != nil {
		return err
	}
	if s.State != "ready" {
		return fmt.Errorf("%s is %s: %s", m, s.State, s.Reason)
	}
	if s.Underlay.MTU != underlayMTU {
		return fmt.Errorf("%s has not found yet that its underlay's MTU is %d again", m, underlayMTU)
	}
	list, err := query[peerList](ctx, m, "peers")
	if err != nil {
		return err
	}
	up := 0
	for _, peer := range list.Peers {
		if peer.State != "up" || peer.Why == "" {
			return fmt.Errorf("%s sees %s in state %q", m, peer.Name, peer.State)
		}
		up++
	}
	if up != nodeCount-1 {
		return fmt.Errorf("%s sees %d peers", m, up)
	}
	return nil
}

// eventually waits until ready returns nil, also where ctx has ended: what is being undone is waited for. The error is
// the last that was no sign of the waiting's own end.
func eventually(ctx context.Context, patience time.Duration, ready func(context.Context) error) error {
	var last error
	err := topo.WaitUntil(context.WithoutCancel(ctx), patience, func(ctx context.Context) error {
		err := ready(ctx)
		if err != nil && ctx.Err() == nil {
			last = err
		}
		return err
	}, func() error { return nil })
	if err != nil && last != nil {
		return fmt.Errorf("not within %s: %w", patience, last)
	}
	return err
}

// unaccounted is what was received and neither forwarded nor dropped.
func (d direction) unaccounted() int64 {
	n := d.Received - d.Forwarded
	for _, dropped := range d.Drops {
		n -= dropped
	}
	return n
}

// parseMetrics takes the wanted series, which have no labels, out of Prometheus's text format.
func parseMetrics(text string, wanted ...string) (map[string]float64, error) {
	found := make(map[string]float64)
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), " ")
		for _, w := range wanted {
			if w != name {
				continue
			}
			v, err := strconv.ParseFloat(value, 64)
			if err != nil {
				return nil, fmt.Errorf("metric %s has the value %q", name, value)
			}
			found[name] = v
		}
	}
	if len(found) != len(wanted) {
		return nil, errors.New("weftd has not all of the metrics " + strings.Join(wanted, ", "))
	}
	return found, nil
}
