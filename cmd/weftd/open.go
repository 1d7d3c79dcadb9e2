package main

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/weft-net/weft/cmd/internal/authority"
	"github.com/weft-net/weft/cmd/internal/config"
	"github.com/weft-net/weft/membership"
	"github.com/weft-net/weft/membership/gossip"
)

// openStore takes the state directory: who this node is, and what it knows of the others.
func (d *daemon) openStore() error {
	if err := d.lockState(); err != nil {
		return fmt.Errorf("stateDir (%s): %w", d.config.Source("stateDir"), err)
	}
	identity, err := membership.LoadIdentity(d.config.StateDir)
	if err != nil {
		return fmt.Errorf("stateDir (%s): %w", d.config.Source("stateDir"), err)
	}
	d.id, d.identity = identity.ID, identity
	terms := membership.Terms{Networks: d.config.PodNetworks}
	if terms.Authority, err = clusterCA(d.config); err != nil {
		return err
	}
	if d.config.ClusterCA != "" {
		if d.cert, err = authority.LoadCert(d.config.NodeCert, terms.Authority, d.id); err != nil {
			return fmt.Errorf("nodeCert (%s): %w", d.config.Source("nodeCert"), err)
		}
	}
	store, warnings, err := membership.OpenStore(d.config.StateDir, identity, terms, d.config.DeadGrace, time.Now())
	if err != nil {
		return fmt.Errorf("stateDir (%s): %w", d.config.Source("stateDir"), err)
	}
	for _, w := range warnings {
		d.log.Warn(w)
	}
	d.warnings = append(d.warnings, warnings...)
	d.store = store
	if d.config.AutoCIDR {
		d.allotter = membership.NewAllot(store, d.config.BlockSize4, d.config.BlockSize6)
	}
	return nil
}

// clusterCA is the authority that nodes need a certificate of; zero without one.
func clusterCA(c *config.Config) (id membership.ID, err error) {
	if c.ClusterCA == "" {
		return id, nil
	}
	if id, err = authority.LoadPublic(c.ClusterCA); err != nil {
		return id, fmt.Errorf("clusterCA (%s): %w", c.Source("clusterCA"), err)
	}
	return id, nil
}

func (d *daemon) openGossip(key []byte) (err error) {
	addr := d.config.GossipAddr
	if !addr.IsValid() {
		addr = d.underlay.Addresses[0]
	}
	bind := netip.AddrPortFrom(addr, d.config.GossipPort)
	d.gossip, err = gossip.New(gossip.Config{
		Store: d.store, Addr: bind, Join: d.current().JoinAddrs(), Key: key, Logger: d.log,
	})
	if err != nil {
		return err
	}
	d.own(d.gossip.Close)
	return nil
}
