// Package node asks this node's weftd what it has for pods, and to remove what one had, on behalf of package cni.
//
// It reads the little that it needs from the control API with a few lines of its own, where control.Client would do: a
// CNI plugin is started anew for each pod, and net/http with what it imports is a quarter of the time until it
// begins, and half of its file. The tests hold it against package control.
package node

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/weft-net/weft/cni"
	"github.com/weft-net/weft/cni/wiring"
)

// DefaultSocket is config.DefaultSocket.
const DefaultSocket = "/run/weft/weft.sock"

const (
	// patience bounds the question: weftd answers from memory.
	patience = 5 * time.Second
	// detachPatience bounds what can be done without weftd as well.
	detachPatience = 2 * time.Second
	// maxAnswer is what 10,000 warnings have.
	maxAnswer = 4 << 20
	// protocol is HTTP/1.0, whose answer ends with the connection and is in one piece (RFC 1945, section 7.2.2).
	protocol = " HTTP/1.0\r\nHost: weftd\r\nContent-Length: 0\r\n\r\n"
)

// Daemon is the weftd behind a socket. It is a cni.Daemon, and may be used by several goroutines.
type Daemon struct {
	socket string
}

// New returns the weftd behind the control socket at path.
func New(path string) *Daemon { return &Daemon{socket: path} }

// Node asks once, and keeps no connection. The error is one line for the user, and ends with what to do.
func (d *Daemon) Node(ctx context.Context) (cni.Node, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var answer []byte
	err := d.ask(ctx, "GET /v1/status", func(c io.Reader) (err error) {
		answer, err = io.ReadAll(io.LimitReader(c, maxAnswer))
		return err
	})
	if err != nil {
		return cni.Node{}, d.explain(err)
	}
	s, err := parse(answer)
	if err != nil {
		return cni.Node{}, fmt.Errorf("no weftd answers on %s, something else does: is it the right socket? (%w)", d.socket, err)
	}
	return s.forPods(), nil
}

// Detach has weftd remove the device of a pod of the node in whose network namespace the calling thread is. It reads no more of the answer than
// that it is done: its end comes when the kernel has freed the device.
func (d *Daemon) Detach(ctx context.Context, device string) error {
	ctx, cancel := context.WithTimeout(ctx, detachPatience)
	defer cancel()
	netns, err := wiring.Namespace()
	if err != nil {
		return err
	}
	var line string
	err = d.ask(ctx, fmt.Sprintf("POST /v1/detach?device=%s&netns=%d", device, netns), func(c io.Reader) (err error) {
		line, err = bufio.NewReader(c).ReadString('\n')
		return err
	})
	if err != nil {
		return d.explain(err)
	}
	if !isOK(line) {
		return fmt.Errorf("weftd does not detach device %s: its answer begins with %.60q", device, line)
	}
	return nil
}

// ask sends a request, and has read take the answer as it is on the wire.
func (d *Daemon) ask(ctx context.Context, request string, read func(io.Reader) error) error {
	var dialer net.Dialer
	c, err := dialer.DialContext(ctx, "unix", d.socket)
	if err != nil {
		return err
	}
	defer c.Close()
	if deadline, bounded := ctx.Deadline(); bounded {
		if err := c.SetDeadline(deadline); err != nil {
			return err
		}
	}
	if _, err := io.WriteString(c, request+protocol); err != nil {
		return err
	}
	return read(c)
}

// explain says what a failure to talk to weftd means to the user.
func (d *Daemon) explain(err error) error {
	var timeout net.Error
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("weftd is not running (nothing listens on %s); start it with `systemctl start weftd` or `weftd --config /etc/weft/weft.yaml`", d.socket)
	case errors.As(err, &timeout) && timeout.Timeout():
		return fmt.Errorf("weftd does not answer on %s within %s; see what it does with `journalctl -u weftd`", d.socket, patience)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("permission denied on %s; weft-cni must be run by root", d.socket)
	}
	return fmt.Errorf("ask weftd on %s: %w; see why with `journalctl -u weftd`", d.socket, err)
}

// status is what pods need of control.Status.
type status struct {
	State       string         `json:"state"`
	Reason      string         `json:"reason"`
	PodNetworks []netip.Prefix `json:"podNetworks"`
	PodCIDRs    []netip.Prefix `json:"podCIDRs"`
	Allocation  struct {
		Auto bool        `json:"auto"`
		Lost []lostBlock `json:"lost"`
	} `json:"allocation"`
	Certificate struct {
		CIDRs []netip.Prefix `json:"cidrs"`
	} `json:"certificate"`
	Tun struct {
		MTU int `json:"mtu"`
	} `json:"tun"`
}

type lostBlock struct {
	Prefix netip.Prefix `json:"prefix"`
}

// parse reads an HTTP answer with a status in it.
func parse(answer []byte) (s status, err error) {
	head, body, found := bytes.Cut(answer, []byte("\r\n\r\n"))
	line, _, _ := strings.Cut(string(head), "\r\n")
	if !found || !isOK(line) {
		return s, fmt.Errorf("its answer begins with %.60q", line)
	}
	if err := json.Unmarshal(body, &s); err != nil {
		return s, err
	}
	if s.State == "" {
		return s, errors.New("its answer has no state")
	}
	return s, nil
}

// isOK says whether an HTTP answer with this status line is that of a success.
func isOK(line string) bool {
	version, code, _ := strings.Cut(line, " ")
	return strings.HasPrefix(version, "HTTP/1.") && strings.HasPrefix(code, "200 ")
}

// forPods returns what new pods may have. A block that another node has, in whole or in part, is not for them; with the
// blocks that it has besides the node stays ready. Where it lacks a block of one family there is none of either: a pod
// keeps what it begins with.
func (s *status) forPods() cni.Node {
	n := cni.Node{Ready: s.State == "ready", Reason: s.Reason, MTU: s.Tun.MTU}
	if !n.Ready && n.Reason == "" {
		n.Reason = "it is " + s.State
	}
	for _, block := range s.PodCIDRs {
		if !slices.ContainsFunc(s.Allocation.Lost, func(l lostBlock) bool { return l.Prefix.Overlaps(block) }) {
			n.Blocks = append(n.Blocks, block)
		}
	}
	if s.lacks(n.Blocks, true) || s.lacks(n.Blocks, false) {
		n.Blocks = nil
	}
	return n
}

// lacks says whether blocks have none of a family of which this node is to have one: it was given one, or takes one by
// itself, as of all families that the pod network has and its certificate allows (membership.Allot).
func (s *status) lacks(blocks []netip.Prefix, v4 bool) bool {
	of := func(p netip.Prefix) bool { return p.Addr().Is4() == v4 }
	allowed := func(n netip.Prefix) bool {
		return of(n) && (len(s.Certificate.CIDRs) == 0 || slices.ContainsFunc(s.Certificate.CIDRs, n.Overlaps))
	}
	due := slices.ContainsFunc(s.PodCIDRs, of)
	if s.Allocation.Auto {
		due = slices.ContainsFunc(s.PodNetworks, allowed)
	}
	return due && !slices.ContainsFunc(blocks, of)
}
