package encap

import (
	"fmt"
	"net"
)

// MAC is the Ethernet address of a VTEP. The zero MAC is none.
type MAC [6]byte

// ParseMAC reads the address of one VTEP, such as 02:00:00:00:00:01.
func ParseMAC(s string) (MAC, error) {
	hw, err := net.ParseMAC(s)
	if err != nil || len(hw) != len(MAC{}) {
		return MAC{}, fmt.Errorf("read the VTEP address %q: it is not of the form 02:00:00:00:00:01", s)
	}
	m := MAC(hw)
	if !m.unicast() {
		return MAC{}, fmt.Errorf("read the VTEP address %q: it is not that of a single station; make the first byte even, such as 02", s)
	}
	return m, nil
}

// String is the address as ParseMAC reads it.
func (m MAC) String() string { return net.HardwareAddr(m[:]).String() }

// unicast says whether the address is that of one station (IEEE 802-2014 section 8.4).
func (m MAC) unicast() bool { return m[0]&1 == 0 && m != MAC{} }
