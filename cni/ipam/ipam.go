// Package ipam remembers which pod has which address of this node's blocks, in a directory that survives the process
// and a power cut, and gives free addresses to further pods. One file is one attachment, a pod's interface in a
// network: what it holds and what has to be undone when it goes. The files are the truth; there is no index of them.
package ipam

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Why a call fails, for errors.Is. The messages around them say numbers, and who holds what.
var (
	ErrExists    = errors.New("is attached already")
	ErrExhausted = errors.New("no address is left")
	ErrTaken     = errors.New("is taken")
	ErrOutside   = errors.New("is not in a block of this node")
	ErrReserved  = errors.New("is reserved")
	ErrTooMany   = errors.New("more than one address of a family is wanted")
	ErrDamaged   = errors.New("the record is damaged")
)

const (
	// maxContainer leaves room for the interface in a file name of 255 bytes. Runtimes' IDs have 64.
	maxContainer = 200
	// maxInterface is IFNAMSIZ less its NUL (include/uapi/linux/if.h).
	maxInterface = 15
)

// Key names an attachment: CNI allows one of each interface name in a container, whatever the network.
type Key struct{ Container, Interface string }

// String is CONTAINER:INTERFACE, the name of the attachment's file. Neither part may have a colon.
func (k Key) String() string { return k.Container + ":" + k.Interface }

// ParseKey is the inverse of String, and validates.
func ParseKey(text string) (Key, error) {
	container, iface, found := strings.Cut(text, ":")
	if !found {
		return Key{}, fmt.Errorf("attachment %q: it is named as CONTAINER:INTERFACE", text)
	}
	k := Key{container, iface}
	return k, k.Validate()
}

// Validate holds the key to CNI's rules (SPEC.md, "Parameters": container IDs; libcni, ValidateInterfaceName), to 200
// bytes of container ID, and to text that is the same after JSON. What passes is safe as a file name.
func (k Key) Validate() error {
	switch {
	case k.Container == "":
		return errors.New("the container ID is empty")
	case len(k.Container) > maxContainer:
		return fmt.Errorf("container ID %.20q... has %d bytes: %d are allowed", k.Container, len(k.Container), maxContainer)
	case strings.ContainsFunc(k.Container, isForeign) || !isAlphanumeric(rune(k.Container[0])):
		return fmt.Errorf("container ID %q: it begins with a letter or digit, and has only those and _ . - besides", k.Container)
	case k.Interface == "" || len(k.Interface) > maxInterface:
		return fmt.Errorf("interface name %q: 1 to %d bytes are allowed", k.Interface, maxInterface)
	case k.Interface == "." || k.Interface == ".." || !utf8.ValidString(k.Interface) || strings.ContainsFunc(k.Interface, isUnprintable):
		return fmt.Errorf("interface name %q: '/', ':', white space and control characters are not allowed, nor '.' and '..'", k.Interface)
	}
	return nil
}

func isForeign(r rune) bool { return !isAlphanumeric(r) && !strings.ContainsRune("_.-", r) }

func isAlphanumeric(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
}

func isUnprintable(r rune) bool {
	return r == '/' || r == ':' || unicode.IsSpace(r) || unicode.IsControl(r)
}

// Attachment is what is on record of a pod's interface: enough to undo it without the configuration that made it,
// which may have changed since.
type Attachment struct {
	Network   string         `json:"network"` // name in the CNI configuration
	Container string         `json:"container"`
	Interface string         `json:"interface"`     // in the pod
	Netns     string         `json:"netns"`         // path when attached
	Pod       string         `json:"pod,omitempty"` // "namespace/name", for people
	Device    string         `json:"device"`        // host end of the veth
	Bridge    string         `json:"bridge,omitempty"`
	Blocks    []netip.Prefix `json:"blocks"`    // of each address, in the same order
	Addresses []netip.Addr   `json:"addresses"` // one of each family there is
	MTU       int            `json:"mtu"`       // bytes of an IP packet
	Since     time.Time      `json:"since"`     // UTC, in seconds: for people
}

// Key names the attachment.
func (a Attachment) Key() Key { return Key{a.Container, a.Interface} }

// label names the attachment's pod for people.
func (a Attachment) label() string {
	if a.Pod == "" {
		return a.Key().String()
	}
	return fmt.Sprintf("%s (pod %s)", a.Key(), a.Pod)
}

// Request says which addresses an attachment may get.
type Request struct {
	Blocks []netip.Prefix // this node's, usable for new pods; those of a family are filled in order
	Wanted []netip.Addr   // at most one of a family; the other family's is picked
}

// Damaged is a file that should be a record and cannot be read as one. It keeps Addresses, what its readable part
// names, until Remove of its Key. Network is "" where that part names none.
type Damaged struct {
	Key       Key
	Network   string
	Addresses []netip.Addr
	Err       error // one line with the file's path; ErrDamaged, or what the system said when it was read
}
