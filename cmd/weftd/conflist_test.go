//go:build netns

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containernetworking/cni/libcni"

	"github.com/weft-net/weft/cmd/internal/control"
)

const weftBinary = "../../bin/weft"

// readable is nil where libcni takes this network from dir.
func readable(dir string) error {
	list, err := libcni.LoadNetworkConf(dir, networkName)
	if err == nil && list.Plugins[0].Network.Type != pluginName {
		err = fmt.Errorf("its plugin is %s", list.Plugins[0].Network.Type)
	}
	return err
}

func (m *member) status(state string) func(context.Context) error {
	return func(ctx context.Context) error {
		s, err := m.client.Status(ctx)
		if err == nil && (s.State != state || s.Reason == "looking for the other nodes") {
			err = fmt.Errorf("it is %s: %s", s.State, s.Reason)
		}
		return err
	}
}

// TestConflistFollowsTheNode has runtimes know of the network from the time at which the
// node carries packets, whatever happens then: without the file they could not stop the pods
// of a node that has left.
func TestConflistFollowsTheNode(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	m := c.members[0]
	conf, bin := filepath.Join(c.Dir(), "cni", "net.d"), filepath.Join(c.Dir(), "cni", "bin")
	file := filepath.Join(conf, conflistName)
	flags := []string{"--cni-conf-dir", conf, "--cni-bin-dir", bin, "--pod-cidr", "auto"}

	// There is no other node that it could ask for a free block.
	m.start(flags...)
	c.eventually("the node to wait for others", m.status(control.StateStarting))
	if there(file) {
		t.Error("runtimes are told of a node without a block")
	}
	m.stop()

	m.start(append(flags, "--bootstrap")...)
	c.eventually("the network to be told", func(context.Context) error { return readable(conf) })
	c.eventually("the node to be ready", m.status(control.StateReady))
	if err := equal(filepath.Join(bin, pluginName), filepath.Join("..", "..", "bin", pluginName)); err != nil {
		t.Error(err)
	}

	other := filepath.Join(conf, "05-other.conflist")
	write(t, other, `{"cniVersion": "1.0.0", "name": "other", "plugins": [{"type": "other"}]}`, 0o644)
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	c.eventually("the file to be put back", func(context.Context) error { return readable(conf) })
	c.eventually("the other network to be found", func(ctx context.Context) error {
		d, err := m.client.Doctor(ctx)
		if err == nil && !strings.Contains(fmt.Sprint(d.Findings), other) {
			err = fmt.Errorf("the findings are %v", d.Findings)
		}
		return err
	})

	m.stop()
	if err := readable(conf); err != nil {
		t.Errorf("after the daemon's end: %v", err)
	}
	m.start(flags...)
	c.eventually("the node to be ready", m.status(control.StateReady))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if out, err := exec.CommandContext(ctx, weftBinary, "--socket", m.socket, "leave").CombinedOutput(); err != nil {
		t.Fatalf("weft leave: %v\n%s", err, out)
	}
	if err := m.daemon.Wait(); err != nil {
		t.Errorf("weftd ended after leave: %v", err)
	}
	if !there(file) || !there(other) || !there(filepath.Join(bin, pluginName)) {
		t.Errorf("after leave: %v and %v", names(t, conf), names(t, bin))
	}
}

// equal compares two files.
func equal(a, b string) error {
	one, err := os.ReadFile(a)
	other, otherErr := os.ReadFile(b)
	if err := errors.Join(err, otherErr); err != nil {
		return err
	}
	if string(one) != string(other) {
		return fmt.Errorf("%s and %s differ", a, b)
	}
	return nil
}

// TestCNIRefusals has weftd not start where it cannot do what it is asked to.
func TestCNIRefusals(t *testing.T) {
	c := newCluster(t, 1)
	m := c.members[0]
	bare := filepath.Join(c.Dir(), "weftd")
	if out, err := exec.Command("cp", weftdBinary, bare).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, r := range []struct {
		program string
		flags   []string
		says    []string
	}{
		{weftdBinary, []string{"--cni-bin-dir", "/proc/weft"}, []string{"cniBinDir (--cni-bin-dir): ", "mkdir /proc/weft", "ReadWritePaths=/proc/weft"}},
		{bare, []string{"--cni-bin-dir", filepath.Join(c.Dir(), "bin")}, []string{"cniBinDir (--cni-bin-dir): ", "there is no " + filepath.Join(c.Dir(), pluginName)}},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		cmd := m.Command(ctx, append([]string{r.program, "--config", m.config, "--log-level", "error"}, r.flags...)...)
		out, err := cmd.CombinedOutput()
		cancel()
		said := string(out)
		if cmd.ProcessState.ExitCode() != exitFailure || strings.Count(said, "\n") != 1 {
			t.Errorf("%v: %v, said:\n%s", r.flags, err, said)
		}
		for _, want := range r.says {
			if !strings.Contains(said, want) {
				t.Errorf("%v: %q is not in\n%s", r.flags, want, said)
			}
		}
		m.leftNothing()
	}
}
