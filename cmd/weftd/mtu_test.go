package main

import "testing"

func TestAlignedMTU(t *testing.T) {
	for mtu, want := range map[int]int{1450: 1444, 1444: 1444, 1443: 1436, 1430: 1428, 8950: 8948, 65457: 65452} {
		if got := alignedMTU(mtu); got != want || (got-20-20-12)%8 != 0 {
			t.Errorf("of %d: %d, want %d", mtu, got, want)
		}
	}
}
