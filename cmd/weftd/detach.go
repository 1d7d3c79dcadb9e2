package main

import (
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/weft-net/weft/cni/wiring"
)

// maxReleases bounds the devices that are removed at a time: for each a thread waits in the kernel, and Go's runtime keeps the
// threads that it once had.
const maxReleases = 16

// releases counts the devices that are being removed.
type releases struct{ n atomic.Int32 }

// Detach removes the device of a pod of this node, whose network namespace is netns. It calls gone when that is done but for what the kernel does
// with no one to see it, and returns behind that.
func (d *daemon) Detach(netns uint64, device string, gone func()) error {
	defer d.releases.n.Add(-1)
	if d.releases.n.Add(1) > maxReleases {
		return errors.New("other devices are being removed: do it without weftd")
	}
	own, err := wiring.Namespace()
	if err != nil {
		return err
	}
	if netns != own {
		return fmt.Errorf("weftd is in another network namespace (%d) than that of the device (%d): do it without weftd", own, netns)
	}
	links, err := wiring.Open()
	if err != nil {
		return err
	}
	defer links.Close()
	said := false
	err = links.Release(device, func() { said = true; gone() })
	if err != nil && said {
		d.log.Warn("the device of a pod is gone, but not all that it had", "reason", err)
	}
	return err
}
