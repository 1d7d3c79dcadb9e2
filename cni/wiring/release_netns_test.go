//go:build netns

package wiring

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

// When it is said that a device is gone, its name, its pod's interface and its addresses are free for another.
func TestRelease(t *testing.T) {
	bothWirings(t, func(t *testing.T, bridge string) {
		n := newNode(t)
		stays := n.pod(bridge)
		a := n.pod(bridge)
		for range 20 {
			gone := 0
			must(t, n.Release(a.Device, func() {
				gone++
				for _, where := range []*namespace{n.namespace, a.namespace} {
					links, err := where.nl.LinkList()
					must(t, err)
					for _, l := range links {
						if name := l.Attrs().Name; name == a.Device || where == a.namespace && name == a.Interface {
							t.Errorf("%s is still there", name)
						}
					}
				}
				_, err := n.Attach(a.Port)
				must(t, err)
			}))
			if gone != 1 {
				t.Fatalf("it is said %d times that the device is gone", gone)
			}
			must(t, n.Check(a.Port))
		}
		must(t, n.Release(a.Device, func() {}))
		must(t, n.Release(a.Device, func() { t.Error("it is said that a device is gone which did not exist") }))
		if devices, err := n.Devices(); err != nil || !slices.Equal(devices, []string{stays.Device}) {
			t.Errorf("left are %v, %v", devices, err)
		}
		must(t, n.Check(stays.Port))

		// What happens meanwhile to another link, or to the device itself, is not its end.
		n.run(strings.Fields("ip link add other type bridge")...)
		said := make(chan struct{})
		n.Inject(func(name string) error {
			if name != "remove device" {
				return nil
			}
			n.run(strings.Fields("ip link set nomaster dev " + stays.Device)...)
			n.run(strings.Fields("ip link del other")...)
			select {
			case <-said:
				t.Error("it is said that a device is gone which is not")
			case <-time.After(200 * time.Millisecond):
			}
			return errors.New("held up")
		})
		if err := n.Release(stays.Device, func() { close(said) }); err == nil {
			t.Error("no error, although the device is there")
		}
		n.Inject(func(name string) error {
			if name == "remove guard" {
				return errors.New("refused")
			}
			return nil
		})
		if err := n.Release(stays.Device, func() { t.Error("it is said that all is gone, and the guard is not") }); err == nil {
			t.Error("no error, although the guard is there")
		}
		if err := n.Release("eth0", func() {}); err == nil {
			t.Error("a device that is not weft's is released")
		}
	})
}
