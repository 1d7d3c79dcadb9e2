// Package packet reads and writes the few header fields of inner IP packets
// that the dataplane decides by: addresses, lengths, the DS field, checksums,
// and the ICMP errors that tell a sender why its packet went no further.
//
// It uses the standard library only, allocates nothing and keeps nothing: every
// function borrows its slices until it returns. All functions are safe for
// concurrent use on different packets.
package packet
