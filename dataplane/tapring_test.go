package dataplane

import (
	"bytes"
	"testing"
	"time"
)

// Worker and reader of a ring go on at once, and what is read is what was written, in order.
func TestRing(t *testing.T) {
	const count = 100_000
	r := newRing(4, 0, 0)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range count {
			s := &sight{Captured: Captured{Length: i}}
			r.put(s, []byte{byte(i)}, [][]byte{{byte(i >> 8)}, {byte(i >> 16), 0xff, 0xff}})
		}
	}()
	read, last, deadline := 0, -1, time.Now().Add(10*time.Second)
	for read+int(r.skipped.Load()) < count && time.Now().Before(deadline) {
		c := r.peek()
		if c == nil {
			continue
		}
		i := c.Length
		if i <= last || !bytes.Equal(c.Data, []byte{byte(i), byte(i >> 8), byte(i >> 16), 0xff}) {
			t.Fatalf("after %d comes %d with %x", last, i, c.Data)
		}
		last = i
		r.drop()
		read++
	}
	<-done
	if total := read + int(r.skipped.Load()); total != count {
		t.Errorf("%d read and skipped of %d", total, count)
	}
}
