package cni

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/weft-net/weft/cni/ipam"
)

// config is the network configuration on stdin, as far as an operation reads it. What it does not read is not its
// matter: a DEL succeeds whatever has become of the wiring. Fields that weft does not know are other programs'.
type config struct {
	CNIVersion string `json:"cniVersion"`
	Name       string `json:"name"`
	DataDir    string `json:"dataDir"`

	add    addConfig
	valid  []ipam.Key       // GC: the attachments that are to stay
	result *types100.Result // CHECK: what ADD and the plugins after it have made
}

// addConfig is what only ADD reads, and of it STATUS, DEL and GC the socket.
type addConfig struct {
	Wiring     string          `json:"wiring"`
	Bridge     string          `json:"bridge"`
	MTU        int             `json:"mtu"`
	Socket     string          `json:"socket"`
	DNS        types.DNS       `json:"dns"`
	PrevResult json.RawMessage `json:"prevResult"`
	Runtime    struct {
		IPs []string `json:"ips"`
	} `json:"runtimeConfig"`
	Args struct {
		CNI struct {
			IPs []string `json:"ips"`
		} `json:"cni"`
	} `json:"args"`
}

// decode reads stdin into v.
func decode(stdin []byte, v any) error {
	if err := json.Unmarshal(stdin, v); err != nil {
		return fault(codeDecoding, fmt.Errorf("read the network configuration: %w", err))
	}
	return nil
}

// parseConfig reads what every operation needs.
func parseConfig(stdin []byte) (config, error) {
	c := config{DataDir: DefaultDataDir}
	if err := decode(stdin, &c); err != nil {
		return c, err
	}
	if !filepath.IsAbs(c.DataDir) {
		return c, fault(codeConfig, fmt.Errorf("dataDir %q is not absolute; name a directory such as %s, or leave it out", c.DataDir, DefaultDataDir))
	}
	return c, nil
}

// parseDel reads a configuration for DEL. Where the socket makes no sense it does without the daemon.
func parseDel(stdin []byte) (config, error) {
	c, err := parseConfig(stdin)
	var daemon struct {
		Socket string `json:"socket"`
	}
	if err == nil && json.Unmarshal(stdin, &daemon) == nil {
		c.add.Socket = daemon.Socket
	}
	return c, err
}

// parseAdd reads a configuration for ADD.
func parseAdd(stdin []byte) (config, error) {
	c, err := parseConfig(stdin)
	if err != nil {
		return c, err
	}
	c.add = addConfig{Wiring: Routed, Bridge: DefaultBridge}
	if err := decode(stdin, &c.add); err != nil {
		return c, err
	}
	return c, fault(codeConfig, c.add.check())
}

// check says what makes no sense.
func (a *addConfig) check() error {
	switch {
	case len(a.PrevResult) > 0 && string(a.PrevResult) != "null":
		return errors.New("prevResult: weft-cni makes the pod's interface, and must be the first of its chain's plugins")
	case a.Wiring != Routed && a.Wiring != Bridge:
		return fmt.Errorf("wiring %q is unknown; it is %s or %s", a.Wiring, Routed, Bridge)
	case a.Wiring == Bridge && !isLinkName(a.Bridge):
		return fmt.Errorf("bridge %q is no name for a link; take one such as %s", a.Bridge, DefaultBridge)
	case a.MTU != 0 && (a.MTU < minMTU || a.MTU > maxMTU):
		return fmt.Errorf("mtu %d is not between %d and %d; leave it out to take what weftd carries", a.MTU, minMTU, maxMTU)
	}
	return nil
}

// container is what environment and configuration say of the container.
func (a *addConfig) container(args *skel.CmdArgs) (Container, error) {
	given, err := parseArgs(args.Args)
	if err != nil {
		return Container{}, fault(codeEnvironment, err)
	}
	c := Container{ID: args.ContainerID, Netns: args.Netns, Interface: args.IfName, Pod: given.pod}
	if _, err := wanted(given.ips); err != nil {
		return c, fault(codeEnvironment, fmt.Errorf("CNI_ARGS: IP: %w", err))
	}
	c.Wanted, err = wanted(given.ips, a.Args.CNI.IPs, a.Runtime.IPs)
	return c, fault(codeConfig, err)
}

// isLinkName says whether the kernel would take name for a link, and as it is: for "eth%d" it takes another
// (dev_valid_name and dev_prep_valid_name in net/core/dev.c). Letters beyond ASCII have octets that it takes for blanks.
func isLinkName(name string) bool {
	return name != "" && len(name) <= maxLinkName && name != "." && name != ".." &&
		!strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '/' || r == ':' || r == '%' })
}

// parseCheck reads a configuration for CHECK.
func parseCheck(stdin []byte) (config, error) {
	c, err := parseConfig(stdin)
	if err != nil {
		return c, err
	}
	var given struct {
		PrevResult *types100.Result `json:"prevResult"` // older versions' have the same fields, and some more
	}
	if err := decode(stdin, &given); err != nil {
		return c, err
	}
	if given.PrevResult == nil {
		return c, fault(codeConfig, errors.New("prevResult is missing, and CHECK compares with it; the runtime must hand over what ADD has returned"))
	}
	c.result = given.PrevResult
	return c, nil
}

// parseGC reads a configuration for GC.
func parseGC(stdin []byte) (config, error) {
	c, err := parseDel(stdin)
	if err != nil {
		return c, err
	}
	var gc struct {
		// Libcni leaves it out where no attachment is valid (GCNetworkList, libcni/api.go).
		Valid []types.GCAttachment `json:"cni.dev/valid-attachments"`
	}
	if err := decode(stdin, &gc); err != nil {
		return c, err
	}
	for _, v := range gc.Valid {
		c.valid = append(c.valid, ipam.Key{Container: v.ContainerID, Interface: v.IfName})
	}
	return c, nil
}

// wanted returns the addresses that the runtime asks for, each once. Any may have a prefix length (CONVENTIONS.md of
// the CNI, "ips"), which is left aside: the block has one.
func wanted(lists ...[]string) ([]netip.Addr, error) {
	var all []netip.Addr
	for _, text := range slices.Concat(lists...) {
		bare, length, _ := strings.Cut(text, "/")
		a, err := netip.ParseAddr(bare)
		if err == nil && length != "" {
			_, err = netip.ParsePrefix(text)
		}
		if err != nil || a.Is4In6() || a.Zone() != "" {
			return nil, fmt.Errorf("%q is no address that a pod can have; ask for one such as 10.244.1.7 or fd00:244:1::7", text)
		}
		same := slices.IndexFunc(all, func(have netip.Addr) bool { return have.Is4() == a.Is4() })
		if same < 0 {
			all = append(all, a)
		} else if all[same] != a {
			return nil, fmt.Errorf("%s and %s are both asked for; a pod has one address of each family", all[same], a)
		}
	}
	return all, nil
}
