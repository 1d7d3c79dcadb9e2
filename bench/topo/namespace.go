//go:build linux

package topo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/cni/sandbox"
)

// A Namespace is a named network namespace of a topology: the underlay, a node or a pod.
type Namespace struct {
	topology *Topology
	label    string // "node1" or "node1-a", unique in the topology
	name     string // the file's name in /run/netns
	handle   *netlink.Handle
}

// addNamespace makes a namespace. It is registered before it exists, so that Close
// removes whatever part of it came to be.
func (t *Topology) addNamespace(label string) (*Namespace, error) {
	ns := &Namespace{topology: t, label: label, name: t.run.String() + "-" + label}
	if err := t.register(ns); err != nil {
		return nil, err
	}
	if err := ns.Do(resetInherited); err != nil {
		return nil, err
	}
	return ns, nil
}

func (t *Topology) register(ns *Namespace) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.errIfClosed(); err != nil {
		return err
	}
	for _, other := range t.namespaces {
		if other.label == ns.label {
			return fmt.Errorf("namespace %s exists already", ns.label)
		}
	}
	t.namespaces = append(t.namespaces, ns)
	if err := sandbox.Create(ns.name); err != nil {
		return err
	}
	fd, err := netns.GetFromName(ns.name)
	if err != nil {
		return fmt.Errorf("open network namespace %s: %w", ns.name, err)
	}
	defer fd.Close()
	if ns.handle, err = netlink.NewHandleAt(fd, unix.NETLINK_ROUTE); err != nil {
		return fmt.Errorf("open netlink in %s: %w", ns.label, err)
	}
	return nil
}

// resetInherited gives the namespace the kernel's defaults where a new namespace copies the
// host's values (net.core.devconf_inherit_init_net), so that a host that forwards or filters
// gives the same results as one that does not.
func resetInherited() error {
	for _, key := range []string{
		"ipv4/ip_forward", // comes first: writing it resets the values of all interfaces
		"ipv4/conf/all/rp_filter", "ipv4/conf/default/rp_filter", "ipv4/conf/lo/rp_filter",
		"ipv6/conf/all/forwarding", "ipv6/conf/all/disable_ipv6", "ipv6/conf/default/disable_ipv6",
		// Not the kernel's default: an IPv6 address would wait a second or two for another host to object (RFC 4862
		// section 5.4), link-local ones too, from which a router asks for its neighbours.
		"ipv6/conf/default/accept_dad",
	} {
		err := os.WriteFile("/proc/sys/net/"+key, []byte("0"), 0)
		if errors.Is(err, fs.ErrNotExist) && strings.HasPrefix(key, "ipv6/") {
			continue // a kernel without IPv6
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Name returns the namespace's name as `ip netns` and nsenter's /run/netns know it.
func (ns *Namespace) Name() string { return ns.name }

// Path returns the namespace's file.
func (ns *Namespace) Path() string { return sandbox.Path(ns.name) }

// String returns the short name, NODE or NODE-POD.
func (ns *Namespace) String() string { return ns.label }

// Handle returns a NETLINK_ROUTE handle inside the namespace. The topology owns it.
func (ns *Namespace) Handle() *netlink.Handle { return ns.handle }

func (ns *Namespace) closeHandle() {
	if ns.handle != nil {
		ns.handle.Close()
	}
}

// Do calls fn on another goroutine, locked to a thread inside the namespace and returns its error. What fn
// opens (sockets, say) stays in the namespace; goroutines it starts do not. A panic in fn is
// raised again in the caller. While fn runs, Close cannot free the namespace's devices.
func (ns *Namespace) Do(fn func() error) error {
	err := onOwnThread(func() error {
		fd, err := netns.GetFromName(ns.name)
		if err != nil {
			return err
		}
		defer fd.Close()
		if err := netns.Set(fd); err != nil {
			return err
		}
		return fn()
	})
	if err != nil {
		return fmt.Errorf("in %s: %w", ns.label, err)
	}
	return nil
}

// onOwnThread runs fn, which may change the network namespace of its thread, on a goroutine
// locked to one, and changes it back. A thread that cannot be changed back is not unlocked,
// so that the runtime destroys it and no other goroutine ever runs in the wrong namespace.
func onOwnThread(fn func() error) error {
	var (
		err       error
		recovered any
		returned  bool
		done      = make(chan struct{})
	)
	go func() {
		defer close(done)
		defer func() { recovered = recover() }()
		runtime.LockOSThread()
		var home netns.NsHandle
		if home, err = netns.Get(); err != nil {
			return
		}
		defer func() {
			if netns.Set(home) == nil {
				runtime.UnlockOSThread()
			}
			home.Close()
		}()
		err = fn()
		returned = true
	}()
	<-done
	if recovered != nil {
		panic(recovered)
	}
	if err == nil && !returned {
		return errors.New("the function left its goroutine (runtime.Goexit, or FailNow of a test)")
	}
	return err
}

// Command returns a command that runs args inside the namespace, with English messages. The
// caller starts and waits for it; Close kills it if it still runs.
func (ns *Namespace) Command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "nsenter", append([]string{"--net=" + ns.Path(), "--"}, args...)...)
	cmd.Env = append(cmd.Environ(), "LC_ALL=C")
	// Bounds the wait for output pipes that a grandchild outside the process group holds open.
	cmd.WaitDelay = time.Second
	return cmd
}

// Run runs args inside the namespace and returns their standard output, also when they fail.
// The error then holds what they wrote to standard output and standard error.
func (ns *Namespace) Run(ctx context.Context, args ...string) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd := ns.Command(ctx, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	p, err := ns.topology.start(cmd, false)
	if err == nil {
		err = p.Wait()
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		output := strings.TrimSpace(stdout.String() + stderr.String())
		return stdout.String(), fmt.Errorf("%s: %s: %w: %s", ns.label, strings.Join(args, " "), err, output)
	}
	return stdout.String(), nil
}
