// Package gossip is the membership source over hashicorp/memberlist: it spreads
// records epidemically, detects dead nodes, and finds lost ones again.
//
// # API
//
//	New(Config) (*Gossip, error)     opens the TCP and UDP port and starts memberlist
//	  Addr() netip.AddrPort          where it listens: Description.Gossip
//	  Sync(ctx) error                one attempt to reach anybody; wraps ErrKeyMismatch, ErrNoAnswer
//	  Run(ctx) error                 until ctx is done: announces, redials. Announces no departure
//	  Leave(ctx) error               the only departure: wraps ErrUnheard
//	  Stats() Stats
//	  Close() error                  after Run returned
//
// The order of a start: New, Sync (bounded by ctx), Store.Publish, Store.Claim, Run.
// After a failed Sync the node may go on: Run keeps trying, and its claims are
// provisional until it hears of a settled node.
//
// # Liveness and records
//
// memberlist's node name is the node ID; its metadata is empty. Its join and leave
// events become Store.SetAlive, whether a node died or left: only the record tells.
// Records travel as broadcasts, relayed by every node to which they were news, and
// by full exchanges (push/pull). A node that joins gets every record, on joining and 1 s
// after that. Every 30 s, or less often above 32 nodes, two nodes exchange digests,
// and each sends the other what it lacks.
//
// A broadcast has one record in a packet. Where there is much news at once, as when many
// nodes start, a node pulls: once a second it sends a digest to some member, which answers
// with what it lacks, until three in a row brought nothing.
//
// # How long a dead node is routed
//
// With a grace period of 5 s it is gone within 15 s:
//
//	until somebody probes it     0.5 s on average, below 3 s
//	the probe fails              0.5 s; 1 s where the prober itself is impaired
//	suspicion                    1.5 s up to 10 nodes, 3 s at 100, 4.5 s at 1,000
//	the news spreads             0.5 s
//	grace                        5 s
//
// that is 11 s up to 10 nodes and 14 s at 1,000. Suspicion lasts at most twice as
// long where no second node confirms it.
//
// # Never stuck
//
// memberlist forgets a node 30 s after its death and never dials it again. Run
// dials every known member that is neither alive nor left, and the join names,
// resolved anew each time, for ever: after 1 s, then twice as long each time to at
// most 5 s, or a tenth of a second for each known member if that is longer (to
// 60 s), so that a large cluster does not crowd one node; each delay less up to half
// of it at random. A death starts over. When nobody is missing, the join names
// are looked at again each 30 s, to find an island that nobody here has met.
package gossip
