package handover

import (
	"fmt"
	"net"
	"slices"
	"time"
)

const (
	// checkPatience is how long the taker's checks may take, and also how long it may need
	// from the descriptors to the start. Packets are carried meanwhile.
	checkPatience = 30 * time.Second

	// stopPatience is how long one side waits for the other while nobody carries packets.
	stopPatience = 5 * time.Second
)

// Giver is the side of a takeover that has the descriptors.
type Giver struct {
	conn *net.UnixConn
	// Taker is the version of the other side.
	Taker string
}

// Accept answers a process that asks for a takeover at conn, and returns when that has done
// its checks. refuse is why there shall be none, nil otherwise. An error means that there is no
// takeover; conn is closed then, and the Giver's otherwise.
func Accept(conn *net.UnixConn, version string, refuse error) (g *Giver, err error) {
	g = &Giver{conn: conn}
	defer func() {
		if err != nil {
			conn.Close()
			err = fmt.Errorf("a process wanted to take over, and did not: %w", err)
		}
	}()
	if refuse == nil {
		refuse = peerIsRoot(conn)
	}
	m, _, err := expect(conn, wordHello, stopPatience)
	if err != nil {
		return nil, err
	}
	g.Taker = m.Version
	if refuse == nil && m.Layout != layout {
		refuse = fmt.Errorf("weftd %s hands over in layout %q, and %s takes %q: restart weftd instead", version, layout, m.Version, m.Layout)
	}
	if refuse != nil {
		_ = send(conn, message{Word: wordRefuse, Why: refuse.Error()}, nil, stopPatience) // who asked may be gone
		return nil, refuse
	}
	if err := send(conn, message{Word: wordHello, Layout: layout, Version: version}, nil, stopPatience); err != nil {
		return nil, err
	}
	if _, _, err := expect(conn, wordTake, checkPatience); err != nil {
		return nil, err
	}
	return g, nil
}

// Give sends copies of s, and returns when the taker is ready to carry packets, so that the
// giver shall stop. An error means that the taker failed, and that the giver goes on.
func (g *Giver) Give(s Set) error {
	names := s.names()
	for chunk := range slices.Chunk(names, perMessage) {
		m := message{Word: wordFiles, Last: chunk[len(chunk)-1] == names[len(names)-1]}
		var fds []int
		for _, name := range chunk {
			m.Names = append(m.Names, layout+name)
			fds = append(fds, s[name])
		}
		if err := send(g.conn, m, fds, stopPatience); err != nil {
			return fmt.Errorf("hand over to the process that asked: %w", err)
		}
	}
	if _, _, err := expect(g.conn, wordStart, checkPatience); err != nil {
		return fmt.Errorf("hand over to the process that asked: it failed: %w", err)
	}
	return nil
}

// Stopped says that the giver carries no packets any more, and waits until the taker does.
// An error means that it does not, and that the giver goes on.
func (g *Giver) Stopped() error {
	err := send(g.conn, message{Word: wordStopped}, nil, stopPatience)
	if err == nil {
		_, _, err = expect(g.conn, wordDone, stopPatience)
	}
	if err != nil {
		return fmt.Errorf("hand over to the process that asked: it carries no packets: %w", err)
	}
	return nil
}

// Close ends the conversation, at any time.
func (g *Giver) Close() error { return g.conn.Close() }
