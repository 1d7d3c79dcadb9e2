package handover

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

/* A takeover, between the process that gives and the one that takes, over a stream socket
 * of which each side speaks in turn:
 *
 *   taker                giver
 *   hello      ------->            its version
 *              <-------  hello     or refuse
 *   take       ------->            its checks are done
 *              <-------  files     the giver has ended all but its workers; several, as many
 *                                  descriptors go into one message only; the last says so
 *   start      ------->            all is ready to carry packets
 *              <-------  stopped   the giver's workers have ended
 *   done       ------->            packets are carried; the giver leaves
 *
 * Whenever the taker says something else, nothing in time, or ends, the giver goes on.
 */

// words of a takeover.
const (
	wordHello   = "hello"
	wordRefuse  = "refuse"
	wordTake    = "take"
	wordFiles   = "files"
	wordStart   = "start"
	wordStopped = "stopped"
	wordDone    = "done"
)

// maxMessage bounds the text of a message, in bytes: the names of maxRights files.
const maxMessage = 64 << 10

// perMessage is how many files go into one message: fewer than maxRights, so that their names fit.
const perMessage = 128

// message is what is said, as JSON behind its length in 4 big-endian bytes. The descriptors
// are attached to the length.
type message struct {
	Word    string   `json:"word"`
	Layout  string   `json:"layout,omitempty"`
	Version string   `json:"version,omitempty"`
	Why     string   `json:"why,omitempty"`
	Names   []string `json:"names,omitempty"`
	Last    bool     `json:"last,omitempty"`
}

// send says m, and gives copies of fds.
func send(conn *net.UnixConn, m message, fds []int, patience time.Duration) error {
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if err := conn.SetWriteDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	length := binary.BigEndian.AppendUint32(nil, uint32(len(text)))
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	if _, _, err := conn.WriteMsgUnix(length, rights, nil); err != nil {
		return err
	}
	_, err = conn.Write(text)
	return err
}

// receive waits for a message. fds are the caller's; there are none beside an error.
func receive(conn *net.UnixConn, patience time.Duration) (m message, fds []int, err error) {
	defer func() {
		if err != nil {
			closeDescriptors(fds)
			fds = nil
		}
	}()
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return m, nil, err
	}
	var length [4]byte
	if fds, err = receiveRights(conn, length[:]); err != nil {
		return m, fds, err
	}
	n := binary.BigEndian.Uint32(length[:])
	if n > maxMessage {
		return m, fds, fmt.Errorf("a message of %d bytes", n)
	}
	text := make([]byte, n)
	if _, err := io.ReadFull(conn, text); err != nil {
		return m, fds, err
	}
	if err := json.Unmarshal(text, &m); err != nil {
		return m, fds, err
	}
	if len(m.Names) != len(fds) {
		return m, fds, fmt.Errorf("%d descriptors with %d names", len(fds), len(m.Names))
	}
	return m, fds, nil
}

// receiveRights fills buf, and takes the descriptors that are attached to it, all of them
// with FD_CLOEXEC (package net asks for that: MSG_CMSG_CLOEXEC).
func receiveRights(conn *net.UnixConn, buf []byte) (fds []int, err error) {
	oob := make([]byte, unix.CmsgSpace(4*maxRights))
	for len(buf) > 0 {
		n, oobn, flags, _, err := conn.ReadMsgUnix(buf, oob)
		controls, parseErr := unix.ParseSocketControlMessage(oob[:oobn])
		for i := range controls {
			if more, err := unix.ParseUnixRights(&controls[i]); err == nil {
				fds = append(fds, more...)
			}
		}
		switch {
		case err != nil:
			return fds, err
		case parseErr != nil:
			return fds, os.NewSyscallError("recvmsg", parseErr)
		case flags&unix.MSG_CTRUNC != 0:
			return fds, errors.New("descriptors were lost: this process may open no more, see LimitNOFILE")
		case n == 0:
			return fds, io.ErrUnexpectedEOF
		}
		buf = buf[n:]
	}
	return fds, nil
}

// expect waits for one word.
func expect(conn *net.UnixConn, word string, patience time.Duration) (m message, fds []int, err error) {
	m, fds, err = receive(conn, patience)
	if err == nil && m.Word != word {
		closeDescriptors(fds)
		fds = nil
		err = fmt.Errorf("it said %q, not %q", m.Word, word)
		if m.Word == wordRefuse {
			err = errors.New(m.Why)
		}
	}
	return m, fds, err
}

// peerIsRoot says whether the process at the other end runs as root (SO_PEERCRED, unix(7)): what
// is handed over is the pods' traffic.
func peerIsRoot(conn *net.UnixConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return err
	}
	if credErr != nil {
		return os.NewSyscallError("getsockopt SO_PEERCRED", credErr)
	}
	if cred.Uid != 0 {
		return fmt.Errorf("only root may take over, and process %d runs as user %d", cred.Pid, cred.Uid)
	}
	return nil
}

func closeDescriptors(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}
