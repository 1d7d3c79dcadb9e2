//go:build linux

package main

import (
	"testing"

	"github.com/weft-net/weft/dataplane/route"
)

func TestHasListener(t *testing.T) {
	const sockets = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1234 1 0000000000000000 100 0 0 10 0
   1: 0100007F:1451 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 1235 1 0000000000000000 20 4 30 10 -1
`
	for port, want := range map[int]bool{8080: true, 5201: false, 50000: false} {
		if got := hasListener(sockets, port); got != want {
			t.Errorf("hasListener(%d) = %v", port, got)
		}
	}
}

func FuzzHasListener(f *testing.F) {
	f.Add("   0: 0100007F:1F90 00000000:0000 0A", 8080)
	f.Fuzz(func(_ *testing.T, sockets string, port int) { hasListener(sockets, port) })
}

func TestPodBlocks(t *testing.T) {
	for _, size := range routeSizes() {
		blocks := podBlocks(size)
		table, err := route.Build(blocks)
		if err != nil {
			t.Fatal(err)
		}
		last := blocks[size-1]
		if got, ok := table.Lookup(last.Prefix.Addr().Next()); !ok || got != size-1 || len(blocks) != size {
			t.Errorf("the last of %d blocks, %s: found %d, %v", size, last.Prefix, got, ok)
		}
	}
}
