// Package packet reads and writes the few header fields of inner IP packets
// that the dataplane decides by: addresses, lengths, the DS field, checksums,
// the maximum segment size, and the ICMP errors that tell a sender why its packet
// went no further. It cuts superpackets into wire packets ([Segmenter]), these into
// fragments ([Fragmenter]), and merges wire packets again ([Merger]), by their
// headers: the payload stays where it is. Of Ethernet frames it reads the header, and
// what they say and ask about neighbours.
//
// It uses the standard library only, and on the way of a packet it allocates nothing:
// [NewMerger] does, and [MAC.String].
// Functions borrow their slices until they return, and are safe for concurrent
// use on different packets; Segmenter, Fragmenter and Merger say for how long they
// borrow, and belong to one worker each.
package packet
