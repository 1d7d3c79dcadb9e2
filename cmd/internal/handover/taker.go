package handover

import (
	"errors"
	"fmt"
	"net"
)

// Taker is the side of a takeover that wants the descriptors.
type Taker struct {
	conn *net.UnixConn
	// Giver is the version of the other side.
	Giver string
}

// Ask asks for a takeover at conn, which is the Taker's then, or else closed. The giver goes on as it
// is until Take.
func Ask(conn *net.UnixConn, version string) (*Taker, error) {
	err := peerIsRoot(conn)
	if err == nil {
		err = send(conn, message{Word: wordHello, Layout: layout, Version: version}, nil, stopPatience)
	}
	var m message
	if err == nil {
		m, _, err = expect(conn, wordHello, stopPatience)
	}
	if err == nil && m.Layout != layout {
		err = fmt.Errorf("weftd %s hands over in layout %q, and this one takes %q: restart weftd instead", m.Version, m.Layout, layout)
	}
	if err != nil {
		return nil, fmt.Errorf("ask the weftd that runs to hand over: %w", errors.Join(err, conn.Close()))
	}
	return &Taker{conn: conn, Giver: m.Version}, nil
}

// Take has the giver end everything but its workers, and returns its descriptors.
func (t *Taker) Take() (s Set, err error) {
	s = make(Set)
	defer func() {
		if err != nil {
			s, err = nil, fmt.Errorf("take over from the weftd that runs: %w", errors.Join(err, s.Close()))
		}
	}()
	if err := send(t.conn, message{Word: wordTake}, nil, stopPatience); err != nil {
		return nil, err
	}
	for {
		m, fds, err := expect(t.conn, wordFiles, checkPatience)
		if err != nil {
			return nil, err
		}
		for i, fd := range fds {
			if !s.put(m.Names[i], fd) {
				closeDescriptors(fds[i+1:])
				return nil, fmt.Errorf("it gave %q, which means nothing here", m.Names[i])
			}
		}
		if m.Last {
			return s, nil
		}
	}
}

// Start has the giver's workers end, and returns when they have: packets wait in the kernel
// from then on.
func (t *Taker) Start() error {
	err := send(t.conn, message{Word: wordStart}, nil, stopPatience)
	if err == nil {
		_, _, err = expect(t.conn, wordStopped, stopPatience)
	}
	if err != nil {
		return fmt.Errorf("have the weftd that runs stop: %w", err)
	}
	return nil
}

// Done says that packets are carried, so that the giver leaves. An error means that the giver
// may go on, so that this process must end.
func (t *Taker) Done() error {
	err := send(t.conn, message{Word: wordDone}, nil, stopPatience)
	if err != nil {
		err = fmt.Errorf("tell the weftd that ran to leave: %w", err)
	}
	return errors.Join(err, t.conn.Close())
}

// Close gives up, at any time before Done: the giver goes on.
func (t *Taker) Close() error { return t.conn.Close() }
