package handover

import (
	"encoding/binary"
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// Everything arrives under its name, more of it than one message takes, and both sides are told
// of each step.
func TestTakeover(t *testing.T) {
	before := files(t, 2*perMessage+3)
	g, k := pair(t)
	var group errgroup.Group
	group.Go(func() error {
		giver, err := Accept(g, "1.0", nil)
		if err != nil {
			return err
		}
		if giver.Taker != "1.1" {
			t.Errorf("the taker is %q", giver.Taker)
		}
		return errors.Join(giver.Give(before), giver.Stopped(), giver.Close())
	})
	taker, err := Ask(k, "1.1")
	if err != nil {
		t.Fatal(err)
	}
	got, err := taker.Take()
	if err != nil {
		t.Fatal(err)
	}
	defer got.Close()
	if err := errors.Join(taker.Start(), taker.Done(), group.Wait()); err != nil {
		t.Fatal(err)
	}
	if taker.Giver != "1.0" || len(got) != len(before) {
		t.Fatalf("%d of %d descriptors from %q", len(got), len(before), taker.Giver)
	}
	for name, fd := range got {
		text := make([]byte, 64)
		n, err := unix.Pread(fd, text, 0)
		if err != nil || string(text[:n]) != name {
			t.Errorf("%s holds %q (%v)", name, text[:n], err)
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("%s has flags %#x (%v), without FD_CLOEXEC", name, flags, err)
		}
	}
}

// A taker that ends at any point, or says something else, is an error for the giver, and neither
// keeps a descriptor.
func TestTakerFails(t *testing.T) {
	before := files(t, 3)
	for name, fail := range map[string]func(*Taker) error{
		"after its question": func(*Taker) error { return nil },
		"with another word":  func(k *Taker) error { return send(k.conn, message{Word: wordDone}, nil, stopPatience) },
		"with descriptors":   func(k *Taker) error { return take(k) },
		"before it carries":  func(k *Taker) error { return errors.Join(take(k), k.Start()) },
	} {
		t.Run(name, func(t *testing.T) {
			g, k := pair(t)
			had := open(t)
			var group errgroup.Group
			group.Go(func() error {
				giver, err := Accept(g, "1.0", nil)
				if err != nil {
					return nil // told
				}
				defer giver.Close()
				if err := giver.Give(before); err != nil {
					return nil
				}
				if err := giver.Stopped(); err != nil {
					return nil
				}
				return errors.New("the giver takes it for a success")
			})
			taker, err := Ask(k, "1.1")
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(fail(taker), taker.Close(), group.Wait()); err != nil {
				t.Error(err)
			}
			if has := open(t); has != had-2 { // the two ends
				t.Errorf("%d descriptors are open, and %d were, with both ends", has, had)
			}
		})
	}
}

func take(k *Taker) error {
	s, err := k.Take()
	return errors.Join(err, s.Close())
}

// A giver that refuses says why, and so does one of another layout.
func TestRefusal(t *testing.T) {
	for want, refuse := range map[string]error{
		"ask systemd":           errors.New("ask systemd"),
		"restart weftd instead": nil,
	} {
		g, k := pair(t)
		var group errgroup.Group
		group.Go(func() error {
			if _, err := Accept(g, "1.0", refuse); err == nil {
				return errors.New("the giver gives")
			}
			return nil
		})
		var err error
		if refuse == nil {
			err = send(k, message{Word: wordHello, Layout: "weft0.", Version: "0.9"}, nil, stopPatience)
			if err == nil {
				_, _, err = expect(k, wordHello, stopPatience)
			}
		} else {
			_, err = Ask(k, "1.1")
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error is %v, and shall hold %q", err, want)
		}
		if err := group.Wait(); err != nil {
			t.Error(err)
		}
	}
}

// Whatever comes in place of a message, nothing is kept open by it.
func FuzzReceive(f *testing.F) {
	framed := func(text string) []byte {
		return append(binary.BigEndian.AppendUint32(nil, uint32(len(text))), text...)
	}
	for _, seed := range []string{`{"word":"hello"}`, `{"word":"files","names":["weft1.a"],"last":true}`, `{`, ``, `[]`} {
		f.Add(framed(seed), uint8(1))
		f.Add(framed(seed), uint8(0))
	}
	f.Add([]byte{0xff, 0xff, 0xff, 0xff}, uint8(3))
	null, err := os.Open(os.DevNull)
	if err != nil {
		f.Fatal(err)
	}
	defer null.Close()
	f.Fuzz(func(t *testing.T, data []byte, rights uint8) {
		if len(data) == 0 {
			return
		}
		g, k := pair(t)
		had := open(t)
		var fds []int
		for range rights % 8 {
			fds = append(fds, int(null.Fd()))
		}
		var oob []byte
		if len(fds) > 0 {
			oob = unix.UnixRights(fds...)
		}
		if _, _, err := k.WriteMsgUnix(data, oob, nil); err != nil {
			t.Fatal(err)
		}
		k.Close()
		m, got, err := receive(g, stopPatience)
		if err != nil && got != nil || err == nil && len(m.Names) != len(got) {
			t.Errorf("%+v with %d descriptors (%v)", m, len(got), err)
		}
		closeDescriptors(got)
		if has := open(t); has != had-1 {
			t.Errorf("%d descriptors are open, and %d were, with the other end", has, had)
		}
	})
}
