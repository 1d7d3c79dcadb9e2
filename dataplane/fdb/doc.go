// Package fdb is the forwarding database of a layer-2 segment: behind which node a MAC is
// ([Table]), which MACs turn up at two nodes in turn ([Moves]), and at which MAC an
// address of the network layer is ([Neighbours]).
//
// All three are of a fixed size, and what anyone can send to a segment makes none of them
// grow, slow or allocate: the oldest makes room for what comes. All may be used by
// any number of goroutines. now is in seconds of any clock that does not go back, and may wrap
// around.
package fdb

// age is how many seconds before now that was. It is 0 for what another goroutine, whose
// clock was read later, has just entered.
func age(then, now uint32) uint32 { return uint32(max(0, int32(now-then))) }
