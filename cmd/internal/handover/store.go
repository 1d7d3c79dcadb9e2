package handover

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"golang.org/x/sys/unix"
)

// maxRights is how many descriptors one message carries (SCM_MAX_FD, include/net/scm.h).
const maxRights = 253

// notifyPatience is how long systemd may take to hear, or to do, what it was told.
const notifyPatience = 5 * time.Second

// Store is systemd's file descriptor store of the service that this process is the main
// one of: FileDescriptorStoreMax= in systemd.service(5), FDSTORE=1 in sd_notify(3). The
// files there stay open, and what the kernel queues at them waits, until the service is
// stopped and not started again. One goroutine at a time uses it.
type Store struct {
	socket string
	held   []string // names as systemd has them
}

// OpenStore returns the store, and what it has for this process, as the environment says, which
// it takes that from: it is called once. socket is the NOTIFY_SOCKET; without one there is no
// store. foreign are names of another layout, whose files are closed, and taken out of the store.
func OpenStore(socket string) (st *Store, found Set, foreign []string, err error) {
	found = make(Set)
	if socket == "" {
		return nil, found, nil, nil
	}
	st = &Store{socket: socket}
	var errs []error
	for _, f := range activation.Files(true) {
		name := f.Name()
		fd, err := ownDescriptor(f)
		if err != nil {
			errs = append(errs, fmt.Errorf("take descriptor %s from systemd: %w", name, err))
			continue
		}
		st.held = append(st.held, name)
		if !found.put(name, fd) {
			foreign = append(foreign, name)
		}
	}
	errs = append(errs, st.remove(foreign))
	if err := errors.Join(errs...); err != nil {
		return nil, nil, nil, errors.Join(err, found.Close())
	}
	return st, found, foreign, nil
}

// ownDescriptor is f's, which it closes. The File itself is not kept: Go would close it
// when nobody refers to it, and change its flags.
func ownDescriptor(f *os.File) (fd int, err error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return -1, errors.Join(err, f.Close())
	}
	var dupErr error
	err = raw.Control(func(of uintptr) { fd, dupErr = duplicate(int(of)) })
	if err = errors.Join(err, dupErr, f.Close()); err != nil {
		return -1, err
	}
	// Whoever kept the file may have changed that, for all that have it.
	return fd, os.NewSyscallError("fcntl F_SETFL", unix.SetNonblock(fd, true))
}

// Put has the store hold fds under prefix, in place of what it holds there. They stay the
// caller's: the store has copies.
func (st *Store) Put(prefix string, fds map[string]int) error {
	if err := st.Drop(prefix); err != nil {
		return err
	}
	s := make(Set)
	s.Add(prefix, fds)
	for _, name := range s.names() {
		// FDPOLL=0, since systemd takes a file away that polls as broken, and a UDP
		// socket with an ICMP error for it does.
		text := "FDSTORE=1\nFDPOLL=0\nFDNAME=" + layout + name
		if err := st.tell(text, s[name]); err != nil {
			return fmt.Errorf("put %s into systemd's file descriptor store: %w", name, err)
		}
		st.held = append(st.held, layout+name)
	}
	return nil
}

// Drop takes what is under prefix out of the store, and returns when that has closed it.
func (st *Store) Drop(prefix string) error {
	var names []string
	for _, name := range st.held {
		if strings.HasPrefix(name, layout+prefix+".") {
			names = append(names, name)
		}
	}
	return st.remove(names)
}

// Empty takes everything out of the store.
func (st *Store) Empty() error { return st.remove(st.held) }

func (st *Store) remove(names []string) error {
	if len(names) == 0 {
		return nil
	}
	for _, name := range names {
		if err := st.tell("FDSTOREREMOVE=1\nFDNAME=" + name); err != nil {
			return fmt.Errorf("take %s out of systemd's file descriptor store: %w", name, err)
		}
	}
	st.held = slices.DeleteFunc(slices.Clone(st.held), func(name string) bool { return slices.Contains(names, name) })
	if err := st.barrier(); err != nil {
		return fmt.Errorf("wait for systemd's file descriptor store: %w", err)
	}
	return nil
}

// tell sends systemd a notification, with copies of fds. Package net sends no descriptors to
// a datagram socket.
func (st *Store) tell(text string, fds ...int) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	patience := unix.NsecToTimeval(notifyPatience.Nanoseconds())
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &patience); err != nil {
		return os.NewSyscallError("setsockopt SO_SNDTIMEO", err)
	}
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	return os.NewSyscallError("sendmsg", unix.Sendmsg(fd, []byte(text), rights, &unix.SockaddrUnix{Name: st.socket}, unix.MSG_NOSIGNAL))
}

// barrier returns when systemd has done what was sent before (sd_notify_barrier(3)): it then closes
// the end of a pipe that it is given.
func (st *Store) barrier() error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	raw, err := w.SyscallConn()
	if err != nil {
		return errors.Join(err, w.Close())
	}
	var tellErr error
	err = raw.Control(func(fd uintptr) { tellErr = st.tell("BARRIER=1", int(fd)) })
	if err := errors.Join(err, tellErr, w.Close(), r.SetReadDeadline(time.Now().Add(notifyPatience))); err != nil {
		return err
	}
	_, err = r.Read(make([]byte, 1))
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
