package path

// What tests of the whole need to know of the parts.
const (
	SmallSize    = smallSize
	MaxSweep     = maxSweep
	SmallRate    = smallRate
	SmallBurst   = smallBurst
	LargeRate    = largeRate
	LargeBurst   = largeBurst
	PeerBurst    = peerBurst
	AnyBurst     = answerBurst
	MessageBurst = messageBurst
	MessageRate  = messageRate
	BusyShare    = busyShare
	RoutineShare = routineShare
)

// Seal makes the answer to p that says size, as one who has the key can.
func (t *Tracker) Seal(p Probe, size int, from, to string) []byte {
	m, _ := parse(p.Message)
	return t.seal(message{kind: answer, size: size, nonce: m.nonce}, from, to)
}

// Sweep is sweep.
func Sweep(floor, top int) []int { return sweep(floor, top) }
