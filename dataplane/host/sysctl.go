package host

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// sysctl is a wanted kernel parameter. Its path is relative to /proc/sys.
type sysctl struct {
	path  string
	value string
	// hostPath is what to set outside a container in which /proc/sys is read-only. An interface's own parameters
	// cannot be set there before it exists; it takes them from "default" when it is made.
	hostPath string
}

func ipForward() sysctl {
	return sysctl{path: "net/ipv4/ip_forward", value: "1", hostPath: "net/ipv4/ip_forward"}
}

// linkSysctls are the parameters of the TUN.
func linkSysctls(link string) []sysctl {
	conf := func(name, value string) sysctl {
		return sysctl{"net/ipv4/conf/" + link + "/" + name, value, "net/ipv4/conf/default/" + name}
	}
	return []sysctl{
		// Loose: while routes change, a pod's packet may arrive here although the way back to it leads elsewhere.
		// The higher of "all" and the interface's own value counts, so this also holds against all=1 (strict).
		conf("rp_filter", "2"),
		// Weft's ICMP errors enter through the TUN with the node's own TUN address as their source.
		conf("accept_local", "1"),
	}
}

func (c sysctl) change() change {
	return change{fmt.Sprintf("set sysctl %s to %s", sysctlName(c.path), c.value), c.set}
}

// set writes the value unless it is there already, so that a read-only /proc/sys with the right value will do.
func (c sysctl) set() error {
	file := "/proc/sys/" + c.path
	now, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if strings.TrimSpace(string(now)) == c.value {
		return nil
	}
	err = os.WriteFile(file, []byte(c.value), 0o644)
	if errors.Is(err, unix.EROFS) {
		return fmt.Errorf("%w: set it on the host before weftd starts: `sysctl -w %s=%s`", err, sysctlName(c.hostPath), c.value)
	}
	return err
}

// sysctlName is the dotted name, in which sysctl(8) writes the dot of an interface such as eth0.100 as a slash.
func sysctlName(path string) string {
	return strings.NewReplacer("/", ".", ".", "/").Replace(path)
}
