//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
)

// What `weft ... --json` prints, as far as the demo needs it.
type (
	peerList struct {
		Peers []struct {
			Name  string `json:"name"`
			State string `json:"state"`
			Mode  string `json:"mode"`
			Why   string `json:"why"`
		} `json:"peers"`
	}
	routeList struct {
		Routes []struct {
			Prefix netip.Prefix `json:"prefix"`
			Node   string       `json:"node"`
		} `json:"routes"`
	}
	status struct {
		PodCIDRs []netip.Prefix `json:"podCIDRs"`
		Reason   string         `json:"reason"`
	}
	accounts struct {
		Egress  direction        `json:"egress"`
		Ingress direction        `json:"ingress"`
		Kernel  map[string]int64 `json:"kernel"`
	}
	direction struct {
		Received  int64            `json:"received"`
		Forwarded int64            `json:"forwarded"`
		Drops     map[string]int64 `json:"drops"`
	}
)

// query asks the member's daemon by way of the CLI.
func query[T any](ctx context.Context, c *cluster, m *member, verb string) (T, error) {
	var answer T
	out, err := m.Run(ctx, c.binaries.weft, "--socket", m.socket, verb, "--json")
	if err != nil {
		return answer, err
	}
	if err := json.Unmarshal([]byte(out), &answer); err != nil {
		return answer, fmt.Errorf("weft %s --json on %s: %w", verb, m, err)
	}
	return answer, nil
}

// wire makes a pod of m's out of p's namespace, and returns its address.
func (c *cluster) wire(ctx context.Context, m *member, p *pod) (netip.Addr, error) {
	out, err := m.Run(ctx, c.binaries.weft, "--socket", m.socket, "pod", "add", p.name, "--netns", p.Path(), "--data-dir", m.pods, "--json")
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

// seesUp checks that m has exactly the given members as peers that are up, and routes to them.
func (c *cluster) seesUp(ctx context.Context, m *member, others []*member) error {
	list, err := query[peerList](ctx, c, m, "peers")
	if err != nil {
		return err
	}
	states := make(map[string]string)
	for _, peer := range list.Peers {
		states[peer.Name] = peer.State
	}
	for _, other := range others {
		if state := states[other.String()]; state != "up" {
			return fmt.Errorf("%s sees %s in state %q", m, other, state)
		}
		routed, err := c.hasRoute(ctx, m, other)
		if err != nil {
			return err
		}
		if !routed {
			return fmt.Errorf("%s has no route to %s of %s", m, other.cidr, other)
		}
	}
	return nil
}

// direct checks that every member reaches every other without encapsulation.
func (c *cluster) direct(ctx context.Context) error {
	for _, m := range c.members {
		list, err := query[peerList](ctx, c, m, "peers")
		if err != nil {
			return err
		}
		for _, peer := range list.Peers {
			if peer.Mode != "direct" {
				return fmt.Errorf("%s reaches %s by %s: %s", m, peer.Name, peer.Mode, peer.Why)
			}
		}
	}
	return nil
}

// hasRoute reports whether m would send packets for other's pods to other.
func (c *cluster) hasRoute(ctx context.Context, m, other *member) (bool, error) {
	list, err := query[routeList](ctx, c, m, "routes")
	if err != nil {
		return false, err
	}
	for _, route := range list.Routes {
		if route.Prefix == other.cidr && route.Node == other.String() {
			return true, nil
		}
	}
	return false, nil
}

// sum adds up the drops of all reasons.
func (d direction) sum() int64 {
	var sum int64
	for _, n := range d.Drops {
		sum += n
	}
	return sum
}
