package doctor

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The offloads that weft's packets go by, and the commands that ask for them (linux/ethtool.h, which has had them since
// before there were names for features).
func offloadCommands() []struct {
	name    string
	command uint32
} {
	return []struct {
		name    string
		command uint32
	}{
		{"tx-checksumming", unix.ETHTOOL_GTXCSUM},
		{"generic-segmentation-offload", unix.ETHTOOL_GGSO},
		{"generic-receive-offload", unix.ETHTOOL_GGRO},
	}
}

// readOffloads lists those of a link that are off, not nil where all are on.
func readOffloads(link string) ([]string, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("ask for the offloads of %s: %w", link, err)
	}
	defer unix.Close(fd)
	off := []string{}
	for _, o := range offloadCommands() {
		on, err := ethtoolValue(fd, link, o.command)
		if err != nil {
			return nil, fmt.Errorf("ask for %s of %s: %w", o.name, link, err)
		}
		if on == 0 {
			off = append(off, o.name)
		}
	}
	return off, nil
}

// ethtoolValue is SIOCETHTOOL with a struct ethtool_value.
func ethtoolValue(fd int, link string, command uint32) (uint32, error) {
	value := struct{ command, data uint32 }{command: command}
	var request struct { // struct ifreq
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte // the union is larger than a pointer
	}
	copy(request.name[:unix.IFNAMSIZ-1], link)
	request.data = unsafe.Pointer(&value)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request))); errno != 0 {
		return 0, errno
	}
	return value.data, nil
}
