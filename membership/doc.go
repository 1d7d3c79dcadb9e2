// Package membership holds what a node knows of the cluster: signed records,
// which of two claims to an address wins, and who is to be routed.
//
// # API
//
//	LoadIdentity(dir) (Identity, error)              node.key, made at first use
//	OpenStore(dir, Identity, Terms, grace, now) (*Store, warnings []string, error)
//	NewStore(Identity, Terms, grace, persist) *Store        without a disk
//
//	Store, by the daemon:
//	  Publish(Description) error        what this node is: idempotent, desired state
//	  Check(Description, prefixes...) error      what the next two would refuse
//	  Claim(prefixes...) error          fixed pod CIDRs: idempotent; *ConflictError, ErrOutside
//	  Stake(version, held, tentative) error      an allotter's claims, whatever others claim
//	  Redescribe(Description) error     Publish, for a running node
//	  Settle(), Settled() bool          part in the cluster's history
//	  Leave() error                     announces the departure, releases the claims
//	  Forget(ID) (Envelope, error)      the same for a dead node; Lapsed(now, after) []ID says when
//	  View(now) View                    Self, Members, Conflicts, Next
//	  Clone() (netip.Addr, bool)        another machine has this node's key
//	  Subscribe() (<-chan struct{}, cancel)
//	  Save() error                      writes other nodes' records when they changed
//
//	Store, by a source:
//	  Merge(Envelope) (changed bool, err error)      err names a Reject
//	  SetAlive(ID, alive, now)
//	  Refresh() (published bool, err error)          republishes when it must
//	  Own() (Envelope, bool), Envelopes() []Envelope
//
//	NewAllot(*Store, bits4, bits6) *Allot; Allot.Step(now, Surroundings) (next, error)
//	Certify(authority, ID, cidrs) (Cert, error)
//	Seal(Identity, Record) (Envelope, error), Open(Envelope) (Record, error)
//	AppendMessage(dst, ...Envelope) []byte, ParseMessage(b) ([]Envelope, error)
//
// # Records
//
// A node publishes one [Record] about itself, signed with its key. The signed
// bytes travel in an [Envelope] which is relayed byte for byte, so that fields
// this version does not know survive it. Of one node's records the highest
// Version wins; Version is a Lamport time: above every version its publisher had
// seen. No wall clock takes part in any decision about records.
//
// # Who owns an address
//
// Everything follows from the set of newest records alone, so that all nodes
// which hold the same set agree, in whatever order it reached them:
//
//  1. An underlay address belongs to one machine: of two records with one address
//     among their endpoints the higher Version replaces the other (ties: the lower ID). The
//     replaced record's claims are released. So a machine that was reinstalled
//     and lost its key takes its block back.
//  2. A record that left releases its claims, and so does one whose node another
//     has declared gone (Record.By), by a higher Version. One that claims outside the pod
//     network, or outside its certificate where there is an authority, or whose
//     endpoint lies inside the pod network, is refused as a whole. The pod
//     network may be several prefixes, of both families: each claim is inside one
//     of them.
//  3. Of two overlapping claims one that is held beats a tentative one; then that of
//     a settled node beats another; then the lower Since wins, that is the longer
//     established one (ties: the lower ID). A claim that lost to any other owns
//     nothing, also where that other lost in turn: this pairwise rule never has
//     two owners, and a third node's departure moves no address it did not hold.
//     A node that lost one of several claims is routed by the others. A tentative
//     claim is never routed.
//
// Since is the Version in which a claim was first published, and is kept over
// restarts. A node is settled when it began the cluster ([Store.Settle]: all whom it was
// told of are there and as new, or it is said to be the first and another came, or its
// blocks are fixed and there is nobody to ask) or has
// heard of a settled one: then its claims are published again with a Since above
// all seen, so that nobody who started isolated outranks an established owner.
//
// # How a block is taken
//
// [Allot] takes blocks for a node whose pod CIDRs are not fixed:
//
//  1. It waits until the node is settled and hears another one, or is said to be the first.
//  2. It picks a free block: one that no record claims. That of a replaced machine at
//     its own address comes first, then the first free one after a place that depends on
//     its ID.
//  3. It claims the block tentatively, and holds down: 0.6 s, and 0.2 s more for
//     each doubling of the cluster. If meanwhile a claim that beats its own is heard, it
//     goes back to 2.
//  4. It holds the block, from the moment that this is on its disk.
//  5. A held block that another's claim beats is lost: it is fenced, and the node takes
//     another. It stays claimed, and so is seen, until its last pod is gone.
//
// Liveness is kept apart from records, and decides about routing only. A dead
// member is routed for the grace period, then not; its reservation stays.
//
// # Publishing above what was seen
//
// When a record arrives that the own one must be above, [Store.Merge] and
// [Store.SetAlive] only notify; [Store.Refresh] then persists and publishes. It is
// for the source to call it on each notification, and to limit its rate: two
// machines with one key (a clone) outbid each other for as long as both live. The
// cases: a record of our own ID that is newer than ours (a restored backup, a lost
// state file, the word of another that we are gone), a dead node's newer record that
// names our address, and the first word of a settled node. What others hold of us
// outranks what we remember: a claim that it does not name is stamped anew, and where
// an allotter sees to it, tentative again. So are those of a replaced machine that publishes
// another address.
//
// # Sources
//
// A source brings records and liveness from somewhere. It is one package, the only
// importer of its client, built over a *Store given to it, with
//
//	Run(ctx context.Context) error
//
// which merges what it receives, reports liveness, sends the store's envelopes
// when they change, calls Refresh, and returns when ctx is done without announcing
// a departure. The store belongs to the daemon: a source never closes or saves it,
// and several may run over one. Nodes that publish no records, because they do not run
// weft, come from package static.
package membership
