//go:build netns

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"github.com/weft-net/weft/bench/topo"
	"github.com/weft-net/weft/cmd/internal/control"
)

// dualPod adds a pod with an address of each family to a node.
func dualPod(t *testing.T, on *topo.Node, number byte, mtu int) *topo.Pod {
	t.Helper()
	p, err := on.Pod("p10", netip.AddrFrom4([4]byte{10, 244, number, 10}))
	if err != nil {
		t.Fatal(err)
	}
	six := netip.MustParseAddr(fmt.Sprintf("fd00:10:244:%d::10", number))
	if err := errors.Join(p.AddIPv6(six), p.SetMTU(mtu)); err != nil {
		t.Fatal(err)
	}
	return p
}

// dualStack are the flags for pods of both families.
func (m *member) dualStack() []string {
	return []string{"--pod-network", "10.244.0.0/16,fd00:10:244::/48", "--pod-cidr", fmt.Sprintf("10.244.%d.0/24,fd00:10:244:%[1]d::/64", m.number)}
}

// overIPv6 is a pod whose traffic goes to its other address.
func overIPv6(p *topo.Pod) *topo.Pod {
	other := *p
	other.Addr = p.Addr6
	return &other
}

// ready waits until m carries packets.
func (m *member) ready() {
	m.c.t.Helper()
	m.c.eventually(m.String()+" to be ready", func(ctx context.Context) error {
		s, err := m.client.Status(ctx)
		if err == nil && s.State != control.StateReady {
			err = errors.New(s.State)
		}
		return err
	})
}

// mtu is the size of the largest packet that m's pods may send.
func (m *member) mtu() int {
	m.c.t.Helper()
	s, err := m.client.Status(context.Background())
	if err != nil {
		m.c.t.Fatal(err)
	}
	return s.Tun.MTU
}
