package cni

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/weft-net/weft/cni/ipam"
	"github.com/weft-net/weft/cni/wiring"
)

// patience bounds an operation, and the undoing of one: it may have to wait for a node's other pods, whose writes to a
// slow disk take turns. kubelet gives a pod's sandbox 4 minutes (runtimeRequestTimeout, doubled).
const patience = time.Minute

// Versions are those of the specification which Plugin implements.
func Versions() version.PluginInfo { return version.VersionsStartingFrom("0.3.1") }

// Plugin returns the operations of a CNI plugin, with errors as skel prints them. ADD writes its result to out. ADD and
// STATUS need the daemon behind the configuration's socket, which is "" for the default one; DEL and GC are quicker with it. Each call
// stands alone.
func Plugin(out io.Writer, daemon func(socket string) Daemon) skel.CNIFuncs {
	p := plugin{
		out:    out,
		daemon: daemon,
		store:  func(dir string) Store { return ipam.Open(dir) },
		kernel: func() (Kernel, func(), error) {
			w, err := wiring.Open()
			if err != nil {
				return nil, nil, err
			}
			return w, w.Close, nil
		},
	}
	return p.funcs()
}

// plugin translates between the CNI's environment and JSON on the one side and Network on the other.
type plugin struct {
	out    io.Writer
	daemon func(socket string) Daemon
	store  func(dir string) Store
	kernel func() (Kernel, func(), error) // and how it is closed
}

func (p *plugin) funcs() skel.CNIFuncs {
	bounded := func(operation func(context.Context, *skel.CmdArgs) error) func(*skel.CmdArgs) error {
		return func(args *skel.CmdArgs) error {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			return cniError(operation(ctx, args))
		}
	}
	return skel.CNIFuncs{Add: bounded(p.add), Del: bounded(p.del), Check: bounded(p.check), GC: bounded(p.gc), Status: bounded(p.status)}
}

// cniError turns an error into what skel prints, in one line whatever was joined.
func cniError(err error) error {
	if err == nil {
		return nil
	}
	return types.NewError(Code(err), strings.ReplaceAll(err.Error(), "\n", "; "), "")
}

// network calls use with the network that c describes, and the kernel open.
func (p *plugin) network(c config, use func(*Network) error) error {
	kernel, done, err := p.kernel()
	if err != nil {
		return fault(codeKernel, err)
	}
	defer done()
	return use(&Network{
		Name: c.Name, Wiring: c.add.Wiring, Bridge: c.add.Bridge, MTU: c.add.MTU, DNS: c.add.DNS,
		Store: p.store(c.DataDir), Kernel: kernel, Daemon: p.daemon(c.add.Socket),
	})
}

func (p *plugin) add(ctx context.Context, args *skel.CmdArgs) error {
	c, err := parseAdd(args.StdinData)
	if err != nil {
		return err
	}
	container, err := c.add.container(args)
	if err != nil {
		return err
	}
	return p.network(c, func(n *Network) error {
		result, err := n.Attach(ctx, container)
		if err != nil {
			return err
		}
		answer, err := result.GetAsVersion(c.CNIVersion)
		if err == nil {
			err = answer.PrintTo(p.out)
		}
		if err != nil { // then the runtime knows of no attachment
			undo, cancel := undoing(ctx)
			defer cancel()
			err = joined(fault(codeIO, fmt.Errorf("print the result: %w", err)), n.Detach(undo, container.ID, container.Interface))
		}
		return err
	})
}

func (p *plugin) del(ctx context.Context, args *skel.CmdArgs) error {
	// Skel refuses a CNI_NETNS that is the node's own. After a reboot /proc/PID/ns/net may well be, when another process
	// has got that PID; and weft has no need of the path.
	args.NetnsOverride = "1"
	c, err := parseDel(args.StdinData)
	if err != nil {
		return err
	}
	return p.network(c, func(n *Network) error { return n.Detach(ctx, args.ContainerID, args.IfName) })
}

func (p *plugin) check(ctx context.Context, args *skel.CmdArgs) error {
	c, err := parseCheck(args.StdinData)
	if err != nil {
		return err
	}
	container := Container{ID: args.ContainerID, Netns: args.Netns, Interface: args.IfName}
	return p.network(c, func(n *Network) error { return n.Check(ctx, container, c.result) })
}

func (p *plugin) gc(ctx context.Context, args *skel.CmdArgs) error {
	c, err := parseGC(args.StdinData)
	if err != nil {
		return err
	}
	return p.network(c, func(n *Network) error { return n.Collect(ctx, c.valid) })
}

func (p *plugin) status(ctx context.Context, args *skel.CmdArgs) error {
	c, err := parseAdd(args.StdinData)
	if err != nil {
		return err
	}
	n := Network{Name: c.Name, Daemon: p.daemon(c.add.Socket)}
	return n.Ready(ctx)
}
