package device

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/dataplane/offload"
)

// ErrUnfit is what the error of Adopt and AdoptTAP wraps where the descriptors are no whole
// device of that name and number of queues.
var ErrUnfit = errors.New("descriptors of the device that do not fit")

// Descriptors are those of the device by the names that Adopt takes: in.N is where queue N
// is read and out.N where it is written, where that is another. They stay the device's.
func (t *tuntap) Descriptors() map[string]int {
	fds := make(map[string]int, 2*len(t.pairs))
	for i, p := range t.pairs {
		fds[inName(i)] = p.in
		if p.out != p.in {
			fds[outName(i)] = p.out
		}
	}
	return fds
}

func inName(i int) string  { return fmt.Sprintf("in.%d", i) }
func outName(i int) string { return fmt.Sprintf("out.%d", i) }

// adopt makes a device of its descriptors, or closes them.
func adopt(l layer, given map[string]int, name string, queues int, want offload.Set) (*tuntap, error) {
	pairs, err := pairsOf(given, name, queues, uint16(l)|l.header(want))
	if err != nil {
		errs := []error{err}
		for _, fd := range given {
			errs = append(errs, unix.Close(fd))
		}
		return nil, errors.Join(errs...)
	}
	return assemble(l, name, pairs, want, theKernel)
}

// pairsOf sorts given, and checks against the kernel that they are of a device with these flags.
func pairsOf(given map[string]int, name string, queues int, flags uint16) (pairs []pair, err error) {
	perQueue := 2
	if queues == 1 {
		perQueue = 1
	}
	if len(given) != queues*perQueue {
		return nil, fmt.Errorf("%w: %d, where %d queues have %d", ErrUnfit, len(given), queues, queues*perQueue)
	}
	for i := range queues {
		in, ok := given[inName(i)]
		out, both := given[outName(i)]
		if !both {
			out = in
		}
		if !ok || both != (queues > 1) {
			return nil, fmt.Errorf("%w: those of queue %d are not there", ErrUnfit, i)
		}
		if err := errors.Join(checkQueue(in, name, flags, false), checkQueue(out, name, flags, both)); err != nil {
			return nil, err
		}
		pairs = append(pairs, pair{in: in, out: out})
	}
	return pairs, nil
}

// checkQueue asks the kernel whether fd is a queue of such a device, attached or detached.
func checkQueue(fd int, name string, flags uint16, detached bool) error {
	var req unix.Ifreq
	if err := unix.IoctlIfreq(fd, unix.TUNGETIFF, &req); err != nil {
		return fmt.Errorf("%w: one of them is of no device (%w)", ErrUnfit, err)
	}
	const kind = unix.IFF_TUN | unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR | unix.IFF_MULTI_QUEUE
	wanted := flags | unix.IFF_NO_PI | unix.IFF_MULTI_QUEUE
	// Of a queue that TUNSETQUEUE detached (tun_get_iff and tun_set_queue, drivers/net/tun.c).
	is := req.Uint16()&unix.IFF_DETACH_QUEUE != 0
	if req.Name() != name || req.Uint16()&kind != wanted || is != detached {
		return fmt.Errorf("%w: one of them is of device %s with flags %#x", ErrUnfit, req.Name(), req.Uint16())
	}
	return nil
}

// Persist has the device stay when the process ends without Close, with its addresses and
// routes (TUNSETPERSIST).
func (t *tuntap) Persist() error { return t.persist(true) }

func (t *tuntap) persist(on bool) error {
	value := 0
	if on {
		value = 1
	}
	err := unix.IoctlSetInt(t.pairs[0].in, unix.TUNSETPERSIST, value)
	if err != nil && (on || !errors.Is(err, unix.EBADFD)) { // EBADFD: it was deleted already
		return t.failed("keep", err)
	}
	return nil
}
