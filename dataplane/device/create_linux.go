package device

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

const clonePath = "/dev/net/tun"

// pair is the two descriptors of one queue: packets from the kernel are read from
// in, packets for the kernel are written to out.
type pair struct{ in, out int }

// attacher opens a descriptor and makes it a queue of the device called name, which the
// kernel calls given.
type attacher func(name string, flags uint16) (fd int, given string, err error)

// create makes as many pairs, and says what name the kernel gave the device. That is made
// too where flags has IFF_TUN_EXCL; else the pairs are of one that nobody holds.
//
// With several queues, out is a queue of its own that was attached and detached
// again (TUNSETQUEUE). A write through an attached queue teaches the kernel that the
// packet's flow belongs to that queue (tun_flow_update, drivers/net/tun.c), in
// both directions: answers that come in through another worker would move a flow to
// another queue in mid-stream, and reorder it. The kernel learns nothing from a
// detached queue, takes its packets all the same, and spreads flows over the
// attached ones by their hash alone.
//
// A detached queue keeps the index it had, with which the kernel marks the packets
// it takes, and which must be that of an attached one (get_rps_cpu warns otherwise).
// Therefore out comes before in, which then takes over its index.
func create(attach attacher, name string, queues int, flags uint16) (given string, pairs []pair, err error) {
	defer func() {
		if err != nil {
			_ = closeAll(pairs)
		}
	}()
	first, given, err := attach(name, flags)
	if err != nil {
		return "", nil, err
	}
	pairs = append(pairs, pair{in: first, out: first})
	if queues == 1 {
		return given, pairs, nil // the kernel learns only where there is a choice
	}
	for i := range queues {
		if i > 0 {
			out, _, err := attach(given, flags&^unix.IFF_TUN_EXCL)
			if err != nil {
				return "", pairs, err
			}
			pairs = append(pairs, pair{in: out, out: out})
		}
		if err := detach(pairs[i].out, given); err != nil {
			return "", pairs, err
		}
		if pairs[i].in, _, err = attach(given, flags&^unix.IFF_TUN_EXCL); err != nil {
			pairs[i].in = pairs[i].out
			return "", pairs, err
		}
	}
	return given, pairs, nil
}

// attach is the attacher of devices that weft opens itself.
func (l layer) attach(name string, flags uint16) (attached int, given string, err error) {
	fd, err := unix.Open(clonePath, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV):
		return -1, "", fmt.Errorf("open %s: %w; load the TUN driver with `modprobe tun`, or give the container the device", clonePath, err)
	case err != nil:
		return -1, "", fmt.Errorf("open %s: %w; run weftd as root", clonePath, err)
	}
	defer func() {
		if err != nil {
			unix.Close(fd)
		}
	}()
	req, err := unix.NewIfreq(name)
	if err != nil {
		return -1, "", fmt.Errorf("create %s device %s: %w; a name has at most %d bytes", l, name, err, unix.IFNAMSIZ-1)
	}
	req.SetUint16(uint16(l) | unix.IFF_NO_PI | unix.IFF_MULTI_QUEUE | flags)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
		return -1, "", l.refusal(name, err)
	}
	return fd, req.Name(), nil
}

// refusal says what to do about an error of TUNSETIFF.
func (l layer) refusal(name string, err error) error {
	another := "set another name with `tun`"
	if l == layer2 {
		another = "give the segment another name"
	}
	switch {
	case errors.Is(err, unix.EBUSY):
		return fmt.Errorf("create %s device %s: an interface of that name exists (%w); stop the program that holds it (`ip -d link show %s` says more), or %s", l, name, err, name, another)
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("create %s device %s: %w; it takes the capability CAP_NET_ADMIN: run weftd as root, or `setcap cap_net_admin+ep $(command -v weftd)`", l, name, err)
	case errors.Is(err, unix.E2BIG):
		return fmt.Errorf("create %s device %s: %w: a device has 256 queues, and each worker takes two; set fewer workers", l, name, err)
	}
	return fmt.Errorf("create %s device %s: %w", l, name, err)
}

func detach(fd int, name string) error {
	var req unix.Ifreq
	req.SetUint16(unix.IFF_DETACH_QUEUE)
	if err := unix.IoctlIfreq(fd, unix.TUNSETQUEUE, &req); err != nil {
		return fmt.Errorf("detach a queue of device %s: %w", name, err)
	}
	return nil
}

// each is the pair's descriptors, each once.
func (p pair) each() []int {
	if p.in == p.out {
		return []int{p.in}
	}
	return []int{p.in, p.out}
}

// closeAll closes every descriptor. The device goes away with the last.
func closeAll(pairs []pair) error {
	var errs []error
	for _, p := range pairs {
		errs = append(errs, closeFDs(p.each()))
	}
	return errors.Join(errs...)
}

func closeFDs(fds []int) error {
	var errs []error
	for _, fd := range fds {
		errs = append(errs, unix.Close(fd))
	}
	return errors.Join(errs...)
}
