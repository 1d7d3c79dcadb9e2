//go:build netns

package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

// pod is one of a runtime's, with one container.
type pod struct {
	n         *node
	r         runner
	id        string // of its sandbox
	container string
	addrs     []netip.Addr
}

// runner is a container runtime.
type runner interface {
	runSandbox(ctx context.Context, name string, ports ...mapping) (id string, err error)
	addresses(ctx context.Context, id string) ([]netip.Addr, error)
	exec(ctx context.Context, container string, args ...string) (string, error)
	removeSandbox(ctx context.Context, id string) error
}

// serve makes a pod with the image's web server.
func (r *containerd) serve(name string, ports ...mapping) *pod {
	t := r.n.t
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	id, err := r.runSandbox(ctx, name, ports...)
	if err != nil {
		t.Fatal(err)
	}
	p := &pod{n: r.n, r: r, id: id}
	container := message(nil).embed(1, message(nil).text(1, "web")).embed(2, message(nil).text(1, imageName)).
		text(3, "/bin/busybox", "httpd", "-f", "-p", fmt.Sprint(webPort), "-h", "/www")
	answer, err := r.call(ctx, "CreateContainer", message(nil).text(1, id).embed(2, container).embed(3, r.sandbox(name, ports)))
	if err != nil {
		t.Fatal(err)
	}
	p.container = string(answer.first(1).inner)
	if _, err := r.call(ctx, "StartContainer", message(nil).text(1, p.container)); err != nil {
		t.Fatal(err)
	}
	if p.addrs, err = r.addresses(ctx, id); err != nil {
		t.Fatal(err)
	}
	return p
}

// remove removes the pod.
func (p *pod) remove(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := p.r.removeSandbox(ctx, p.id); err != nil {
		t.Fatal(err)
	}
}

// exec runs a command of busybox's in the pod's container.
func (p *pod) exec(ctx context.Context, args ...string) (string, error) {
	return p.r.exec(ctx, p.container, append([]string{"/bin/busybox"}, args...)...)
}

// fetch gets the page that shows the pod's address as the server sees it.
func (p *pod) fetch(ctx context.Context, server netip.AddrPort) (netip.Addr, error) {
	response, err := p.exec(ctx, "sh", "-c", fmt.Sprintf("printf '%s' | nc -w 5 %s %d", pageRequest, server.Addr(), server.Port()))
	if err != nil {
		return netip.Addr{}, err
	}
	return shownAddr(response)
}

// shownAddr takes the last line of what the image's web server answers, its client's address.
func shownAddr(response string) (netip.Addr, error) {
	text := strings.TrimSpace(response)
	a, err := netip.ParseAddr(strings.Trim(text[strings.LastIndexByte(text, '\n')+1:], "[]"))
	return a.Unmap(), err
}

// parseAddrs reads a runtime's answer.
func parseAddrs(texts []string) (addrs []netip.Addr, err error) {
	for _, text := range texts {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return nil, err
		}
		addrs = append(addrs, a)
	}
	return addrs, nil
}

// reaches expects that the node, which is outside of the pod network, reaches a pod by a port of that pod's node, under its own
// address.
func (n *node) reaches(mapped netip.AddrPort) {
	n.t.Helper()
	n.eventually("the mapped port to answer", func(ctx context.Context) error {
		shown, err := n.fetch(ctx, mapped)
		if err == nil && shown != n.Addr {
			err = fmt.Errorf("the pod sees %s, not %s", shown, n.Addr)
		}
		return err
	})
}
