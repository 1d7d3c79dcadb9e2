package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"
)

// A measurement is one session: a TCP connection by which it is agreed on and round trips
// are measured, and beside that connections that carry as much as they can, one way each. All go from a TUN address to
// the data port's number at another. Each begins with a greeting from the node that measures:
//
//	 0  8  "weftB\x00\x00\x01"
//	 8  1  kind
//	 9  3  zero
//	12  4  milliseconds that a source is to send for, big-endian; zero of other kinds
//	16 16  session, random
//
// A session is answered by one byte, benchAgreed or benchBusy, and from then on every byte comes back as it is. A sink is
// sent to until the end of the stream, and answers with its tally: the bytes that it got, and the nanoseconds from the
// first to the last, each 8 bytes, big-endian. A source sends, and ends the stream.
const (
	benchMagic       = "weftB\x00\x00\x01"
	benchGreetingLen = 32
	benchTallyLen    = 16
)

const (
	benchSession = 1
	benchSink    = 2
	benchSource  = 3
)

const (
	benchAgreed = 0
	benchBusy   = 1
)

const (
	// benchLimit bounds a session on both ends: what `weft bench` does takes 9 s, and the rest is for connecting.
	benchLimit = 15 * time.Second

	// benchStreams is the most streams of a session at once.
	benchStreams = 4

	// For that long round trips are made, and then each direction is loaded, by one stream and by four.
	benchPingFor = time.Second
	benchLoadFor = 2 * time.Second

	// benchPatience bounds what is no measuring: a connection, a greeting, an agreement.
	benchPatience = 3 * time.Second

	// benchBuffer is read and written at once: two superpackets, so that the one is filled while the other is sent.
	benchBuffer = 128 << 10

	// benchPing is the length of a round trip's message.
	benchPing = 64
)

type sessionID [16]byte

// benchGreeting is what a connection is for.
type benchGreeting struct {
	kind    byte
	length  time.Duration // that a source sends for, up to benchLimit
	session sessionID
}

func (g benchGreeting) append(b []byte) []byte {
	b = append(b, benchMagic...)
	b = append(b, g.kind, 0, 0, 0)
	b = binary.BigEndian.AppendUint32(b, uint32(g.length.Milliseconds()))
	return append(b, g.session[:]...)
}

// readGreeting reads one, and no byte beyond it.
func readGreeting(r io.Reader) (g benchGreeting, err error) {
	var b [benchGreetingLen]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return g, fmt.Errorf("read a greeting: %w", err)
	}
	g.kind, g.session = b[8], sessionID(b[16:])
	g.length = time.Duration(binary.BigEndian.Uint32(b[12:])) * time.Millisecond
	switch {
	case string(b[:8]) != benchMagic, b[9] != 0, b[10] != 0, b[11] != 0, g.kind < benchSession, g.kind > benchSource:
		return g, errors.New("what was sent is no greeting")
	case g.kind == benchSource && (g.length == 0 || g.length > benchLimit), g.kind != benchSource && g.length != 0:
		return g, fmt.Errorf("a greeting asks for %s, which is out of bounds", g.length)
	}
	return g, nil
}

// benchTally is what one end has received.
type benchTally struct {
	bytes uint64
	took  time.Duration // from the first byte to the last
}

func (t benchTally) append(b []byte) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(b, t.bytes), uint64(t.took))
}

func readTally(r io.Reader) (t benchTally, err error) {
	var b [benchTallyLen]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return t, fmt.Errorf("read what the other end has received: %w", err)
	}
	took := binary.BigEndian.Uint64(b[8:])
	if took > uint64(benchLimit) {
		return t, errors.New("the other end says that it received for longer than it may")
	}
	return benchTally{binary.BigEndian.Uint64(b[:]), time.Duration(took)}, nil
}

// receiveAll reads r to its end, tells count of each piece, and says what came.
func receiveAll(r io.Reader, count func(n int)) (t benchTally, err error) {
	buf := make([]byte, benchBuffer)
	var first time.Time
	for {
		n, err := r.Read(buf)
		if n > 0 {
			if first.IsZero() {
				first = time.Now()
			}
			t.bytes += uint64(n)
			t.took = time.Since(first)
			count(n)
		}
		switch {
		case errors.Is(err, io.EOF):
			return t, nil
		case err != nil:
			return t, fmt.Errorf("receive: %w", err)
		}
	}
}

// sendFor writes to w for that long.
func sendFor(w io.Writer, length time.Duration, count func(n int)) error {
	buf := make([]byte, benchBuffer)
	for end := time.Now().Add(length); time.Now().Before(end); {
		n, err := w.Write(buf)
		count(n)
		if err != nil {
			return fmt.Errorf("send: %w", err)
		}
	}
	return nil
}
