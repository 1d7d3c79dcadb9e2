//go:build linux

package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"

	"go.yaml.in/yaml/v4"
)

// weftTUN is weftd's own default for the name of its device.
const weftTUN = "weft0"

// weftSubject is the release daemon with its defaults, but for the given keys.
func weftSubject(name, about string, keys map[string]any) subject {
	return subject{
		name:     name,
		about:    about,
		binaries: []string{"weftd", "weft"},
		join: func(ctx context.Context, n *network) error {
			if err := startWeft(ctx, n, keys); err != nil {
				return err
			}
			return setWeftMTU(n)
		},
	}
}

func startWeft(ctx context.Context, n *network, keys map[string]any) error {
	if _, err := n.client.Run(ctx, filepath.Join(n.bin, "weft"), "keygen", "--out", n.path("gossip.key")); err != nil {
		return err
	}
	for _, way := range n.directions() {
		self, other := way[0], way[1]
		config := n.path(self.String() + ".yaml")
		if err := writeWeftConfig(config, n, self, other, keys); err != nil {
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
func writeWeftConfig(path string, n *network, self, other *site, keys map[string]any) error {
	join := []string{}
	if self != n.client {
		join = append(join, other.Addr.String())
	}
	config := map[string]any{
		"nodeName":      self.String(),
		"podNetwork":    podNetwork,
		"podCIDR":       self.cidr.String(),
		"join":          join,
		"gossipKeyFile": n.path("gossip.key"),
		"socket":        n.path(self.String() + ".sock"),
		"stateDir":      n.path(self.String() + ".state"),
	}
	maps.Copy(config, keys)
	data, err := yaml.Marshal(config)
	if err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o600)
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
