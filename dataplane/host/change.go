package host

import (
	"errors"
	"fmt"
)

// Kind is what a Repair was of. It is a metric's label: a kind has no other values than these.
type Kind string

// The kinds of what Apply puts in place.
const (
	KindLink    Kind = "link" // the TUN, and its attributes
	KindAddress Kind = "address"
	KindRoute   Kind = "route"
	KindRule    Kind = "rule"
	KindSysctl  Kind = "sysctl"
)

// Repair is one thing that was in place, and that somebody else removed or changed.
type Repair struct {
	Kind Kind
	What string // as "route 10.244.2.0/24 via 192.0.2.2 dev eth0 proto 119 onlink"
}

// change is one step towards the wanted state.
type change struct {
	kind  Kind
	what  string // for an error, and empty when do names it itself
	thing string // what is in place afterwards, if it is something that State wants
	gone  string // what is not in place afterwards, if somebody may want to know
	do    func() error
}

// ledger is one Apply's account of the things that are wanted.
type ledger struct {
	before   map[string]bool // in place after the Apply before
	after    map[string]bool // in place already, or made so
	record   *record         // of sysctls; nil for none
	sysctls  []sysctl        // that are wanted
	made     []string
	repaired []Repair // made although they were in place before
	removed  []string
}

// found enters a thing that needs no change.
func (l *ledger) found(thing string) {
	l.after[thing] = true
}

// run makes all changes in order and joins their errors. It stops at the first one refused for want of a right:
// all others would be, and the user needs one line.
func (l *ledger) run(changes []change) error {
	var errs []error
	for _, c := range changes {
		err := c.do()
		if err != nil && c.what != "" {
			err = fmt.Errorf("%s: %w", c.what, err)
		}
		if refused(err) {
			return err
		}
		errs = append(errs, err)
		if err == nil && c.gone != "" {
			l.removed = append(l.removed, c.gone)
		}
		if err != nil || c.thing == "" {
			continue
		}
		l.made = append(l.made, c.thing)
		if l.before[c.thing] {
			l.repaired = append(l.repaired, Repair{c.kind, c.thing})
		}
		l.after[c.thing] = true
	}
	return errors.Join(errs...)
}

// unless is err, or nil when err is done: what the kernel answers when somebody else has just removed the thing.
func unless(done, err error) error {
	if errors.Is(err, done) {
		return nil
	}
	return err
}
