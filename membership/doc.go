// Package membership holds what a node knows of the cluster: signed records,
// which of two claims to an address wins, and who is to be routed.
//
// # API
//
//	LoadIdentity(dir) (Identity, error)              node.key, made at first use
//	OpenStore(dir, Identity, networks, grace, now) (*Store, warnings []string, error)
//	NewStore(Identity, networks, grace, persist) *Store     without a disk
//
//	Store, by the daemon:
//	  Publish(Description) error        what this node is: idempotent, desired state
//	  Check(Description, prefixes...) error      what the next two would refuse
//	  Claim(prefixes...) error          the pod CIDRs it holds: idempotent; *ConflictError, ErrOutside
//	  Leave() error                     announces the departure, releases the claims
//	  View(now) View                    Self, Members, Conflicts, Next
//	  Subscribe() (<-chan struct{}, cancel)
//	  Save() error                      writes other nodes' records when they changed
//
//	Store, by a source:
//	  Merge(Envelope) (changed bool, err error)      err names a Reject
//	  SetAlive(ID, alive, now)
//	  Refresh() (published bool, err error)          republishes when it must
//	  Settle()                                       there is nobody to ask
//	  Own() (Envelope, bool), Envelopes() []Envelope
//
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
//  2. A record that left releases its claims. One that claims outside the pod
//     network, or whose endpoint lies inside it, is refused as a whole. The pod
//     network may be several prefixes, of both families: each claim is inside one
//     of them.
//  3. Of two overlapping claims the lower Since wins, that is the longer
//     established one (ties: the lower ID). A claim that lost to any other owns
//     nothing, also where that other lost in turn: this pairwise rule never has
//     two owners, and a third node's departure moves no address it did not hold.
//     A node that lost one of several claims is routed by the others.
//
// Since is the Version in which a claim was first published, and is kept over
// restarts. A claim made by a node that had never met another is provisional:
// at the first contact it is published again with a Since above all seen, so
// that a newcomer that started isolated cannot outrank an established owner.
// [Store.Settle] says that there is nobody to meet: the first node of a cluster.
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
// state file), a dead node's newer record that names our address, and a
// provisional claim at first contact.
//
// # Sources
//
// A source brings records and liveness from somewhere: gossip now, later a file,
// Kubernetes or etcd. It is one package, the only importer of its client, built
// over a *Store given to it, with
//
//	Run(ctx context.Context) error
//
// which merges what it receives, reports liveness, sends the store's envelopes
// when they change, calls Refresh, and returns when ctx is done without announcing
// a departure. The store belongs to the daemon: a source never closes or saves it,
// and several may run over one. While there is one source there is no interface.
package membership
