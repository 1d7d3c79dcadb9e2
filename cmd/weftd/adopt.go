package main

import (
	"errors"
	"fmt"

	"github.com/weft-net/weft/dataplane/device"
	"github.com/weft-net/weft/encap"
)

// openPort takes over the data ports, or opens them.
func (d *daemon) openPort(c encap.ListenConfig) (port *encap.Port, err error) {
	s := &d.succession
	fresh := true
	if given := s.left.Take(partPort); len(given) > 0 {
		port, err = encap.Adopt(c, given)
		if fresh = err != nil; fresh {
			if err := d.unfit("the sockets", partPort, err); err != nil {
				return nil, err
			}
		} else {
			port.Brace()
		}
	}
	if fresh {
		// That of the life before is in use for as long as systemd keeps it.
		if s.store != nil {
			if err := s.store.Drop(partPort); err != nil {
				return nil, err
			}
		}
		if port, err = encap.Listen(c); err != nil {
			return nil, err
		}
	}
	d.bequeath(partPort, port.Descriptors(), fresh)
	return port, nil
}

// openTUN takes over the TUN, from a process that has handed it over or from one that was
// killed, or makes one.
func (d *daemon) openTUN(queues int) (tun *device.TUN, err error) {
	s, name := &d.succession, d.config.Tun
	fresh := true
	if given := s.left.Take(partTUN); len(given) > 0 {
		tun, err = device.Adopt(given, name, queues, d.wanted)
		if fresh = err != nil; fresh {
			if err := d.unfit("the TUN", partTUN, err); err != nil {
				return nil, err
			}
		}
	}
	if fresh {
		if tun, err = d.makeTUN(queues); err != nil {
			return nil, err
		}
	}
	s.heir = !fresh
	d.bequeath(partTUN, tun.Descriptors(), fresh)
	return tun, nil
}

// makeTUN makes the TUN, or takes over what is left of one whose process was killed. Others that
// are left are of another configuration.
func (d *daemon) makeTUN(queues int) (*device.TUN, error) {
	abandoned, err := d.host.Abandoned()
	if err != nil {
		return nil, err
	}
	for _, name := range abandoned {
		if name != d.config.Tun {
			if err := d.host.Discard(name); err != nil {
				return nil, err
			}
			continue
		}
		tun, err := device.Reopen(name, queues, d.wanted)
		if err == nil {
			d.log.Info("the TUN of a weftd that was killed is taken over, with its addresses and routes", "device", name)
			return tun, nil
		}
		d.log.Warn("the TUN of a weftd that was killed is of no use, and is made anew", "device", name, "reason", err)
		if err := d.host.Discard(name); err != nil {
			return nil, err
		}
	}
	return device.Open(d.config.Tun, queues, d.wanted)
}

// unfit is for what was inherited and is not as the configuration has it: then it is made anew,
// for which nobody may hold the old one.
func (d *daemon) unfit(what, part string, why error) error {
	s := &d.succession
	if s.taker != nil {
		return fmt.Errorf("%w: the configuration is another than that of the weftd that runs; stop that, and start weftd without --takeover", why)
	}
	d.log.Warn(what+" of the weftd before are not as the configuration says, and are made anew; packets that waited there are lost", "reason", why)
	d.succession.count(fromSystemd, "unfit")
	var err error
	if part == partTUN {
		err = d.host.Discard(d.config.Tun)
	}
	if s.store != nil {
		err = errors.Join(err, s.store.Drop(part))
	}
	return err
}

// bequeath has systemd keep what the next process will need, where there is a systemd.
func (m *machine) bequeath(part string, fds map[string]int, fresh bool) {
	if s := &m.succession; s.store != nil && fresh {
		m.trouble.say(m.log, troubleStore, s.store.Put(part, fds))
	}
}
