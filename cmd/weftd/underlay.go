package main

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/weft-net/weft/dataplane/host"
)

// What the daemon lives on with.
const troubleUnderlay = "there is no underlay, and nothing is carried until there is one"

// underlayPatience is how long another underlay, or none, must have lasted before it counts:
// a link that flaps, and a lease that is renewed, change it for a moment. With what a new life
// takes it leaves the 2 s in which packets shall be carried again.
const underlayPatience = 500 * time.Millisecond

// familyPatience is the same where the addresses of one family are gone, and others carry all:
// IPv6 addresses go with the link, and come back when they were found to be no duplicates.
const familyPatience = 5 * time.Second

// followUnderlay returns errUnderlay when this life's underlay is not this machine's any more,
// and another one is. Where there is none it waits: addresses, and so the sockets, are as good
// as before when they come back.
func (d *daemon) followUnderlay(ctx context.Context) error {
	kernel, err := d.host.Watch(ctx)
	if err != nil {
		return err
	}
	check := time.NewTicker(hostInterval)
	defer check.Stop()
	look := newAlarm()
	defer look.Stop()
	var last string // what was other than it should be
	var since, looked time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case _, open := <-kernel:
			if !open {
				kernel = nil // reconcile has said so
			}
			look.within(max(pause, time.Until(looked.Add(eventsInterval))))
		case <-check.C:
			look.within(0)
		case now := <-look.C:
			look.at, looked = time.Time{}, now
			found, err := d.host.UnderlayAfter(d.config.Underlay.String(), d.underlay)
			other := difference(d.underlay, found, err)
			if other != last {
				last, since = other, now
			}
			patience := underlayPatience
			if isPart(found, d.underlay) {
				patience = familyPatience
			}
			switch lasted := now.Sub(since); {
			case other == "":
				d.trouble.say(d.log, troubleUnderlay, nil)
			case lasted < patience:
				look.within(patience - lasted)
			case err != nil:
				d.trouble.say(d.log, troubleUnderlay, err)
			default:
				return fmt.Errorf("%w: %s", errUnderlay, other)
			}
		}
	}
}

// difference says in what found, or the error of looking for it, is another underlay than is;
// "" where it is the same.
func difference(is, found host.Underlay, err error) string {
	switch {
	case err != nil:
		return err.Error()
	case found.Interface != is.Interface, found.Index != is.Index, !slices.Equal(found.Addresses, is.Addresses):
		return fmt.Sprintf("%s (interface %d) with %v in place of %s (interface %d) with %v",
			found.Interface, found.Index, found.Addresses, is.Interface, is.Index, is.Addresses)
	case found.MTU != is.MTU:
		return fmt.Sprintf("%s with MTU %d in place of %d", found.Interface, found.MTU, is.MTU)
	}
	return ""
}

// isPart says whether found is an underlay that has lost some of its addresses, and nothing else.
func isPart(found, is host.Underlay) bool {
	kept := slices.DeleteFunc(slices.Clone(is.Addresses), func(a netip.Addr) bool { return !slices.Contains(found.Addresses, a) })
	fewer := is
	fewer.Addresses = kept
	return len(kept) > 0 && len(kept) < len(is.Addresses) && difference(fewer, found, nil) == ""
}
