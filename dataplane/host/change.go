package host

import (
	"errors"
	"fmt"
)

// change is one step towards the wanted state.
type change struct {
	what  string // for an error, and empty when do names it itself
	thing string // what is in place afterwards, if it is something that State wants
	do    func() error
}

// ledger is one Apply's account of the things that are wanted.
type ledger struct {
	before   map[string]bool // in place after the Apply before
	after    map[string]bool // in place already, or made so
	repaired []string        // made although they were in place before
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
		if err != nil || c.thing == "" {
			continue
		}
		if l.before[c.thing] {
			l.repaired = append(l.repaired, c.thing)
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
