package control

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

const (
	socketMode = 0o660
	dirMode    = 0o755
	// lockTimeout is how long Listen waits for another daemon that is between looking and binding.
	lockTimeout = 5 * time.Second
	lockRetry   = 20 * time.Millisecond
	// probeTimeout bounds the question whether somebody listens already.
	probeTimeout = time.Second
)

// Listen creates the Unix socket at path with mode 0660, and its folder with mode 0755 where that is missing.
// A socket that a crashed daemon left is replaced; one on which a daemon listens is an error, and so is
// anything at path that is no socket. Closing the listener removes the socket.
func Listen(path string) (net.Listener, error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, dirMode); err != nil {
		return nil, fmt.Errorf("create control socket %s: %w", path, err)
	}
	unlock, err := lockDir(dir)
	if err != nil {
		return nil, fmt.Errorf("create control socket %s: %w", path, err)
	}
	defer unlock()
	if err := removeStale(path); err != nil {
		return nil, err
	}
	lc := net.ListenConfig{Control: restrict}
	l, err := lc.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, fmt.Errorf("create control socket: %w", err)
	}
	// The umask may have taken the group's rights away.
	if err := os.Chmod(path, socketMode); err != nil {
		l.Close()
		return nil, fmt.Errorf("create control socket: %w", err)
	}
	return l, nil
}

// restrict sets the mode that the socket file gets from bind (net/unix/af_unix.c, unix_bind_bsd, takes it from
// the socket's inode), so that at no moment others may connect.
func restrict(_, _ string, raw syscall.RawConn) error {
	var err error
	if ctlErr := raw.Control(func(fd uintptr) { err = syscall.Fchmod(int(fd), socketMode) }); ctlErr != nil {
		return ctlErr
	}
	return err
}

// removeStale removes the socket at path if nobody listens on it.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("create control socket: %w", err)
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("create control socket %s: a file that is no socket is in the way; remove it, or set another socket", path)
	}
	conn, err := net.DialTimeout("unix", path, probeTimeout)
	if err == nil {
		conn.Close()
	}
	switch {
	case errors.Is(err, fs.ErrNotExist): // its owner has just ended
		return nil
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("create control socket %s: permission denied; run weftd as root", path)
	case !errors.Is(err, syscall.ECONNREFUSED): // a daemon too busy to accept is alive
		return fmt.Errorf("weftd is already running (%s)", path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove stale control socket: %w", err)
	}
	return nil
}

// lockDir keeps two daemons that start at once from removing each other's fresh socket. The lock is on the
// folder itself, so that no lock file is left behind.
func lockDir(dir string) (unlock func(), err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(lockTimeout); ; time.Sleep(lockRetry) {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) || time.Now().After(deadline) {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", dir, err)
		}
	}
}
