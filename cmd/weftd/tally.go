package main

import "github.com/weft-net/weft/dataplane"

// tally is what this process has counted of packets.
type tally struct {
	dataplane.Stats
	overflow uint64 // datagrams that the data ports' sockets dropped
}

// tally adds what this life has counted to the lives before it. It is right also once this life
// has ended.
func (d *daemon) tally() tally {
	t := tally{Stats: d.engine.Stats(), overflow: d.former.overflow}
	for reason, n := range d.prober.strayed() {
		t.Ingress.Received += n
		t.Ingress.Drops[reason] += n
	}
	t.Add(d.former.Stats)
	if n, err := d.port.Overflows(); err == nil {
		t.overflow += n
	}
	return t
}
