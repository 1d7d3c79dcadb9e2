//go:build linux

package main

import (
	"context"
	"fmt"
)

const segmentName = "bench"

// segmentSubject is a layer-2 segment of weft's between two bridges, with the MTU that weft chooses.
func segmentSubject() subject {
	return subject{
		name:     "weft-segment",
		about:    "weftd with a segment whose TAP is in a bridge; layer 2 between VMs",
		binaries: []string{"weftd", "weft"},
		join: func(ctx context.Context, n *network) error {
			if err := n.bridgeVMs(ctx); err != nil {
				return err
			}
			segment := map[string]any{"name": segmentName, "vni": segmentVNI, "bridge": segmentBridge}
			if err := startWeft(ctx, n, "vxlan", map[string]any{"segments": []any{segment}}); err != nil {
				return err
			}
			tap, err := n.client.Handle().LinkByName("seg-" + segmentName)
			if err != nil {
				return fmt.Errorf("read the MTU of the segment's TAP: %w", err)
			}
			return n.setVMMTU(ctx, tap.Attrs().MTU)
		},
	}
}
