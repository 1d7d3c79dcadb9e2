package cni

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"

	"github.com/weft-net/weft/cni/ipam"
	"github.com/weft-net/weft/cni/wiring"
)

// fakeKernel has ports in a map, and fails where step says so.
type fakeKernel struct {
	ports map[string]wiring.Port
	step  func(name string) error

	elsewhere []netip.Prefix        // default routes by other interfaces
	learned   map[netip.Addr]string // neighbours, by a bridge
}

// DefaultRoutes finds those that the sandbox has in elsewhere.
func (k *fakeKernel) DefaultRoutes(netns string) ([]netip.Prefix, error) {
	if netns != sandbox {
		return nil, fmt.Errorf("%q: %w", netns, wiring.ErrNamespace)
	}
	return k.elsewhere, k.step("default routes")
}

func (k *fakeKernel) Attach(p wiring.Port) (wiring.Ends, error) {
	if err := k.step("attach"); err != nil {
		return wiring.Ends{}, err
	}
	if _, found := k.ports[p.Device]; found {
		return wiring.Ends{}, fmt.Errorf("make %s: %w", p.Device, wiring.ErrExists)
	}
	k.ports[p.Device] = p
	if err := k.step("attached, and cannot undo it"); err != nil {
		return wiring.Ends{}, err
	}
	ends := wiring.Ends{Host: net.HardwareAddr{2, 0, 0, 0, 0, 1}, Pod: net.HardwareAddr{2, 0, 0, 0, 0, 2}}
	if p.Bridge != "" {
		ends.Bridge = net.HardwareAddr{2, 0, 0, 0, 0, 3}
	}
	return ends, nil
}

func (k *fakeKernel) Detach(device string) error {
	if err := k.step("detach"); err != nil {
		return err
	}
	delete(k.ports, device)
	return nil
}

func (k *fakeKernel) Forget(bridge string, addresses []netip.Addr) error {
	if err := k.step("forget"); err != nil {
		return err
	}
	maps.DeleteFunc(k.learned, func(a netip.Addr, by string) bool { return by == bridge && slices.Contains(addresses, a) })
	return nil
}

func (k *fakeKernel) Check(p wiring.Port) error {
	if !slices.Equal(p.Without, k.elsewhere) {
		return fmt.Errorf("%s lacks default routes", p.Device)
	}
	if _, found := k.ports[p.Device]; !found {
		return fmt.Errorf("%s is not there", p.Device)
	}
	return nil
}

func (k *fakeKernel) Devices() ([]string, error) {
	if err := k.step("devices"); err != nil {
		return nil, err
	}
	return slices.Sorted(maps.Keys(k.ports)), nil
}

// fakeDaemon answers with what it is.
type fakeDaemon struct {
	node   Node
	err    error
	detach func(device string) error // nil leaves it to the caller
}

func (d fakeDaemon) Node(context.Context) (Node, error) { return d.node, d.err }

func (d fakeDaemon) Detach(_ context.Context, device string) error {
	if d.detach == nil {
		return errors.New("other devices are being removed")
	}
	return d.detach(device)
}

const sandbox = "/run/netns/pod"

// bed is a plugin whose kernel is a map, whose store is a directory of the test's, and whose daemon is ready.
type bed struct {
	t      testing.TB
	dir    string
	store  *ipam.Store
	kernel *fakeKernel
	daemon fakeDaemon
	out    bytes.Buffer
	plugin plugin
}

func newBed(t testing.TB) *bed {
	t.Helper()
	// In memory, where it can be: hundreds of fsyncs are no part of what is tested here.
	dir, err := os.MkdirTemp("/dev/shm", "weft-cni-test-")
	if err != nil {
		dir = t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	b := &bed{t: t, dir: filepath.Join(dir, "attachments"), kernel: &fakeKernel{ports: make(map[string]wiring.Port)}}
	b.daemon.node = Node{Ready: true, MTU: 1420, Blocks: []netip.Prefix{netip.MustParsePrefix("10.244.1.0/24"), netip.MustParsePrefix("fd00:244:1::/64")}}
	b.plugin = plugin{
		out:    &b.out,
		daemon: func(string) Daemon { return b.daemon },
		store:  func(string) Store { return b.store },
		kernel: func() (Kernel, func(), error) { return b.kernel, func() {}, nil },
	}
	b.inject(func(string) error { return nil })
	return b
}

// inject has step called before every step of store and kernel.
func (b *bed) inject(step func(string) error) {
	b.store = ipam.Open(b.dir)
	b.store.Inject(step)
	b.kernel.step = step
}

// call runs one operation for a container, with further fields of the configuration, and returns its error's code, 0 for none.
func (b *bed) call(command, container string, extra string) uint {
	b.t.Helper()
	return b.callArgs(command, &skel.CmdArgs{ContainerID: container, Netns: sandbox, IfName: "eth0"}, extra)
}

func (b *bed) callArgs(command string, args *skel.CmdArgs, extra string) uint {
	b.t.Helper()
	return codeOf(b.try(command, args, extra))
}

func (b *bed) try(command string, args *skel.CmdArgs, extra string) error {
	b.t.Helper()
	if extra != "" {
		extra = "," + extra
	}
	args.StdinData = []byte(`{"cniVersion":"1.1.0","name":"weft","type":"weft-cni"` + extra + `}`)
	funcs := b.plugin.funcs()
	operation := map[string]func(*skel.CmdArgs) error{
		"ADD": funcs.Add, "DEL": funcs.Del, "CHECK": funcs.Check, "GC": funcs.GC, "STATUS": funcs.Status,
	}[command]
	b.out.Reset()
	return operation(args)
}

func codeOf(err error) uint {
	if err == nil {
		return 0
	}
	var coded *types.Error
	if !errors.As(err, &coded) {
		return types.ErrInternal
	}
	return coded.Code
}

// held are the containers on record, and devices those that the kernel has.
func (b *bed) held() []string {
	b.t.Helper()
	all, damaged, err := ipam.Open(b.dir).List()
	if err != nil || len(damaged) > 0 {
		b.t.Fatal(err, damaged)
	}
	var names []string
	for _, a := range all {
		names = append(names, a.Container)
	}
	slices.Sort(names)
	return names
}

func (b *bed) empty(when string) {
	b.t.Helper()
	if held := b.held(); len(held) > 0 || len(b.kernel.ports) > 0 {
		b.t.Fatalf("%s: left are the records of %v and the links %v", when, held, b.kernel.ports)
	}
}

func (b *bed) want(code, want uint) {
	b.t.Helper()
	if code != want {
		b.t.Fatalf("code %d, want %d", code, want)
	}
}

// main runs the plugin as a process would, by skel's entry, with this environment and stdin.
func (b *bed) main(environment map[string]string, stdin []byte) *types.Error {
	b.t.Helper()
	for _, name := range []string{"CNI_COMMAND", "CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS", "CNI_PATH", "CNI_NETNS_OVERRIDE"} {
		if value, given := environment[name]; !given {
			os.Unsetenv(name)
		} else if err := os.Setenv(name, value); err != nil {
			b.t.Skip("no environment can have that: ", err)
		}
	}
	input, err := os.Create(filepath.Join(filepath.Dir(b.dir), "stdin"))
	if err != nil {
		b.t.Fatal(err)
	}
	defer input.Close()
	if _, err := input.Write(stdin); err != nil {
		b.t.Fatal(err)
	}
	if _, err := input.Seek(0, io.SeekStart); err != nil {
		b.t.Fatal(err)
	}
	// Skel reads these two, and nothing else may take their place.
	stdinOfTest, stdoutOfTest := os.Stdin, os.Stdout
	defer func() { os.Stdin, os.Stdout = stdinOfTest, stdoutOfTest }()
	os.Stdin = input
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		b.t.Fatal(err)
	}
	defer null.Close()
	os.Stdout = null
	b.out.Reset()
	return skel.PluginMainFuncsWithError(b.plugin.funcs(), Versions(), "")
}

func decodeJSON(t testing.TB, text []byte) any {
	t.Helper()
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return v
}
