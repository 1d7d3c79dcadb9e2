package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/weft-net/weft/cni/ipam"
	"github.com/weft-net/weft/cni/wiring"
)

func (u *removal) store() *ipam.Store {
	return ipam.Open(filepath.Join(u.config.StateDir, attachmentsDir))
}

// pod is something that is still attached, as far as it is known.
type pod struct {
	key    ipam.Key // zero where there is no record
	device string   // host end
	name   string   // for people
}

// attached are the pods on record, and what the kernel has besides.
func (u *removal) attached(links *wiring.Wiring) ([]pod, error) {
	records, damaged, err := u.store().List()
	if err != nil {
		return nil, err
	}
	devices, err := links.Devices()
	if err != nil {
		return nil, err
	}
	var pods []pod
	for i := range records {
		a := &records[i]
		name := fmt.Sprintf("container %s with %s on %s", a.Container, a.Interface, a.Device)
		if a.Pod != "" {
			name = fmt.Sprintf("pod %s with %s on %s", a.Pod, a.Interface, a.Device)
		}
		pods = append(pods, pod{key: a.Key(), device: a.Device, name: fmt.Sprintf("%s, which has %s", name, list(a))})
	}
	for _, d := range damaged {
		pods = append(pods, pod{key: d.Key, device: wiring.Device(d.Key.Container, d.Key.Interface), name: fmt.Sprintf("container %s with %s, whose record is damaged", d.Key.Container, d.Key.Interface)})
	}
	for _, d := range devices {
		if !slices.ContainsFunc(pods, func(p pod) bool { return p.device == d }) {
			pods = append(pods, pod{device: d, name: fmt.Sprintf("a pod on %s, of which there is no record", d)})
		}
	}
	return pods, nil
}

func list(a *ipam.Attachment) string {
	var addresses []string
	for _, address := range a.Addresses {
		addresses = append(addresses, address.String())
	}
	return strings.Join(addresses, " and ")
}

// refuse names the pods, one to a line.
func refuse(pods []pod) error {
	var errs []error
	for _, p := range pods {
		errs = append(errs, errors.New("still attached: "+p.name))
	}
	return errors.Join(append(errs, errors.New("nothing was removed: have their runtimes remove the pods first, or take the network from them by --force"))...)
}
