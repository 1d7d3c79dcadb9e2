//go:build linux

package topo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A Process runs inside a namespace and belongs to its topology. It leads a session and thus a
// process group of its own (a terminal's Ctrl-C does not reach it), which dies with it.
// Its methods may be called concurrently.
type Process struct {
	cmd      *exec.Cmd
	detached bool
	logPath  string
	done     chan struct{}
	err      error // valid once done is closed
}

// Start starts args inside the namespace. The process is killed by Close, and by the kernel
// when this program dies in whatever way.
func (ns *Namespace) Start(args ...string) (*Process, error) {
	return ns.startLogged(args, false)
}

// StartDetached is Start for a process that survives Keep. If this program dies before Keep,
// the process lives on until the next New sweeps it.
func (ns *Namespace) StartDetached(args ...string) (*Process, error) {
	return ns.startLogged(args, true)
}

func (ns *Namespace) startLogged(args []string, detached bool) (*Process, error) {
	t := ns.topology
	t.mu.Lock()
	t.logs++
	logName := fmt.Sprintf("%s-%s-%d.log", ns.label, filepath.Base(args[0]), t.logs)
	t.mu.Unlock()

	log, err := os.OpenFile(filepath.Join(t.Dir(), logName), os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("start %s in %s: %w", args[0], ns.label, err)
	}
	defer log.Close()
	cmd := ns.Command(context.Background(), args...)
	cmd.Stdout, cmd.Stderr = log, log
	p, err := t.start(cmd, detached)
	if err != nil {
		return nil, fmt.Errorf("start %s in %s: %w", args[0], ns.label, err)
	}
	p.logPath = log.Name()
	return p, nil
}

// start makes cmd a process of the topology.
func (t *Topology) start(cmd *exec.Cmd, detached bool) (*Process, error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if !detached {
		cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.errIfClosed(); err != nil {
		return nil, err
	}
	request := forkRequest{cmd: cmd, result: make(chan error)}
	t.forks <- request
	if err := <-request.result; err != nil {
		return nil, err
	}
	p := &Process{cmd: cmd, detached: detached, done: make(chan struct{})}
	t.processes[p] = struct{}{}
	t.waiters.Go(func() {
		p.reap()
		t.mu.Lock()
		delete(t.processes, p)
		t.mu.Unlock()
	})
	return p, nil
}

type forkRequest struct {
	cmd    *exec.Cmd
	result chan error
}

// fork starts every process from one thread that lives as long as the topology: the kernel
// sends the parent death signal when the forking thread ends, not the program (prctl(2),
// PR_SET_PDEATHSIG), and the Go runtime may end any thread that no goroutine is locked to.
func (t *Topology) fork() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for request := range t.forks {
		request.result <- request.cmd.Start()
	}
}

// reap waits for the process. Until Wait has collected it, its pid names its process group for
// certain, so that is the moment to kill what it left in the group.
func (p *Process) reap() {
	defer close(p.done)
	pid := p.cmd.Process.Pid
	// An error means that Wait below will report one too.
	_ = ignoringEINTR(func() error {
		return unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
	})
	// An empty group is the usual case and gives no error while the dead leader counts in it.
	killErr := unix.Kill(-pid, unix.SIGKILL)
	p.err = p.cmd.Wait()
	if p.err == nil && killErr != nil {
		p.err = fmt.Errorf("kill process group %d: %w", pid, killErr)
	}
}

// PID returns the process's id. nsenter replaces itself, so this is the program's own.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done returns a channel that is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Wait waits for the process and returns nil, an *exec.ExitError, or what went wrong with its
// output. It may be called more than once.
func (p *Process) Wait() error {
	<-p.done
	return p.err
}

// Signal signals the process alone. It returns an error that wraps os.ErrProcessDone if it
// has ended.
func (p *Process) Signal(sig os.Signal) error {
	if err := p.cmd.Process.Signal(sig); err != nil {
		return fmt.Errorf("signal process %d: %w", p.PID(), err)
	}
	return nil
}

// Kill kills the process and its group with SIGKILL, and waits. It accepts one that has ended.
func (p *Process) Kill() error {
	if err := p.signalKill(); err != nil {
		return err
	}
	select {
	case <-p.done:
		return nil
	case <-time.After(killTimeout):
		return fmt.Errorf("process %d still there %s after SIGKILL", p.PID(), killTimeout)
	}
}

func (p *Process) signalKill() error {
	if err := p.Signal(os.Kill); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}

// LogPath returns the file with the process's standard output and standard error.
func (p *Process) LogPath() string { return p.logPath }

// Log returns what the process has written so far.
func (p *Process) Log() (string, error) {
	data, err := os.ReadFile(p.logPath)
	if err != nil {
		return "", fmt.Errorf("read the log of process %d: %w", p.PID(), err)
	}
	return string(data), nil
}

func ignoringEINTR(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
