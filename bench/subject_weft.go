//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"

	"go.yaml.in/yaml/v4"

	"github.com/weft-net/weft/dataplane/host"
)

const (
	// weftTUN is weftd's own default for the name of its device.
	weftTUN = "weft0"
	// direct is the mode of weftd without encapsulation.
	direct = "direct"
)

// weftSubject is the release daemon with its defaults, but for the mode and the given keys. Its
// default would be direct, since the nodes are on one link.
func weftSubject(name, about, mode string, keys map[string]any) subject {
	return subject{
		name:     name,
		about:    about,
		binaries: []string{"weftd", "weft"},
		join: func(ctx context.Context, n *network) error {
			if mode == direct {
				if err := n.giveNodesIPv6(); err != nil {
					return err
				}
			}
			if err := startWeft(ctx, n, mode, keys); err != nil {
				return err
			}
			if err := awaitMode(ctx, n, mode); err != nil {
				return err
			}
			return setWeftMTU(n)
		},
	}
}

func startWeft(ctx context.Context, n *network, mode string, keys map[string]any) error {
	if _, err := n.client.Run(ctx, filepath.Join(n.bin, "weft"), "keygen", "--out", n.path("gossip.key")); err != nil {
		return err
	}
	for _, way := range n.directions() {
		self, other := way[0], way[1]
		config := n.path(self.String() + ".yaml")
		if err := writeWeftConfig(config, n, self, other, mode, keys); err != nil {
			return fmt.Errorf("configure weftd on %s: %w", self, err)
		}
		var err error
		if self.daemon, err = self.Start(filepath.Join(n.bin, "weftd"), "--config", config); err != nil {
			return err
		}
	}
	// By the first packet the daemons know each other and have made their devices.
	return n.reach(ctx)
}

// writeWeftConfig gives the second node the address of the first, and the first nothing.
func writeWeftConfig(path string, n *network, self, other *site, mode string, keys map[string]any) error {
	join := []string{}
	if self != n.client {
		join = append(join, other.Addr.String())
	}
	config := map[string]any{
		"nodeName":      self.String(),
		"podNetwork":    podNetworks[:len(self.cidrs)],
		"podCIDR":       self.cidrs,
		"mode":          mode,
		"join":          join,
		"gossipKeyFile": n.path("gossip.key"),
		"socket":        n.socket(self),
		"stateDir":      n.path(self.String() + ".state"),
	}
	maps.Copy(config, keys)
	data, err := yaml.Marshal(config)
	if err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o600)
}

// socket is that of the weftd on a node.
func (n *network) socket(s *site) string { return n.path(s.String() + ".sock") }

// awaitMode waits until each node carries its packets to the other in this mode. A daemon may fall
// back to another one, and the first packets may take another way: then something else would be measured.
func awaitMode(ctx context.Context, n *network, mode string) error {
	for _, way := range n.directions() {
		self, other := way[0], way[1]
		err := n.waitUntil(ctx, joinPatience, func(ctx context.Context) error {
			if err := n.carries(ctx, self, other, mode); err != nil || mode != direct {
				return err
			}
			return routesDirectly(ctx, self, other)
		})
		if err != nil {
			return fmt.Errorf("%s does not use the mode %s to %s: %w", self, mode, other, err)
		}
	}
	return nil
}

// carries looks at what weftd itself says.
func (n *network) carries(ctx context.Context, self, other *site, mode string) error {
	out, err := self.Run(ctx, filepath.Join(n.bin, "weft"), "--socket", n.socket(self), "peers", "--json")
	if err != nil {
		return err
	}
	var list struct {
		Peers []struct{ Name, Mode, Why, DataPath string }
	}
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		return fmt.Errorf("read weft peers --json: %w", err)
	}
	for _, peer := range list.Peers {
		switch {
		case peer.Name != other.String():
		case peer.Mode == mode && peer.DataPath == "works":
			return nil
		default:
			return fmt.Errorf("mode %q (%s), data path %q", peer.Mode, peer.Why, peer.DataPath)
		}
	}
	return errors.New("it is not among the peers")
}

// routesDirectly looks at what the kernel does: a route of weft's to each block of the other node,
// by the address of that node and not into the TUN.
func routesDirectly(ctx context.Context, self, other *site) error {
	for _, cidr := range other.cidrs {
		family := "-4"
		if cidr.Addr().Is6() {
			family = "-6"
		}
		out, err := self.Run(ctx, "ip", "-json", family, "route", "show", cidr.String(), "proto", itoa(host.RouteProtocol))
		if err != nil {
			return err
		}
		var routes []struct{ Gateway netip.Addr }
		if err := json.Unmarshal([]byte(out), &routes); err != nil {
			return fmt.Errorf("read ip -json route: %w", err)
		}
		hop := other.nextHop(cidr)
		if len(routes) != 1 || routes[0].Gateway != hop {
			return fmt.Errorf("no route of weft's to %s via %s", cidr, hop)
		}
	}
	return nil
}

// setWeftMTU gives the pods the MTU that weftd has given its device.
func setWeftMTU(n *network) error {
	for _, way := range n.directions() {
		self := way[0]
		tun, err := self.Handle().LinkByName(weftTUN)
		if err != nil {
			return fmt.Errorf("read the MTU of %s on %s: %w", weftTUN, self, err)
		}
		if err := self.pod.SetMTU(tun.Attrs().MTU); err != nil {
			return err
		}
	}
	return nil
}
