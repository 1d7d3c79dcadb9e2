package doctor

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// attributeType takes the flags off an attribute's type (NLA_TYPE_MASK, linux/netlink.h).
const attributeType = 0x3fff

// readLinks lists the interfaces and their addresses.
func readLinks() ([]Link, error) {
	var links []Link
	at := make(map[int]int)
	err := dump(unix.RTM_GETLINK, unix.RTM_NEWLINK, func(m *syscall.NetlinkMessage, attrs []syscall.NetlinkRouteAttr) {
		if len(m.Data) < unix.SizeofIfInfomsg {
			return
		}
		l := Link{Index: int(binary.NativeEndian.Uint32(m.Data[4:])), Up: binary.NativeEndian.Uint32(m.Data[8:])&unix.IFF_UP != 0,
			Carrier: binary.NativeEndian.Uint32(m.Data[8:])&unix.IFF_LOWER_UP != 0}
		for _, a := range attrs {
			l.attribute(a)
		}
		at[l.Index] = len(links)
		links = append(links, l)
	})
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	err = dump(unix.RTM_GETADDR, unix.RTM_NEWADDR, func(m *syscall.NetlinkMessage, attrs []syscall.NetlinkRouteAttr) {
		if len(m.Data) < unix.SizeofIfAddrmsg {
			return
		}
		i, known := at[int(binary.NativeEndian.Uint32(m.Data[4:]))]
		if p := addressOf(int(m.Data[1]), attrs); known && p.IsValid() {
			links[i].Addresses = append(links[i].Addresses, p)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	return links, nil
}

func (l *Link) attribute(a syscall.NetlinkRouteAttr) {
	switch a.Attr.Type & attributeType {
	case unix.IFLA_IFNAME:
		l.Name = text(a.Value)
	case unix.IFLA_IFALIAS:
		l.Alias = text(a.Value)
	case unix.IFLA_MTU:
		l.MTU = number(a.Value)
	case unix.IFLA_MASTER:
		l.Master = number(a.Value)
	case unix.IFLA_LINKINFO:
		l.Kind = kindIn(a.Value)
	}
}

// kindIn finds the kind in the attributes of IFLA_LINKINFO.
func kindIn(b []byte) string {
	for len(b) >= unix.SizeofRtAttr {
		length := int(binary.NativeEndian.Uint16(b))
		if length < unix.SizeofRtAttr || length > len(b) {
			return ""
		}
		if binary.NativeEndian.Uint16(b[2:])&attributeType == unix.IFLA_INFO_KIND {
			return text(b[unix.SizeofRtAttr:length])
		}
		b = b[min(len(b), (length+3)&^3):]
	}
	return ""
}

// addressOf is the local address, which of a point-to-point link is another attribute than of others.
func addressOf(bits int, attrs []syscall.NetlinkRouteAttr) (p netip.Prefix) {
	for _, a := range attrs {
		switch a.Attr.Type & attributeType {
		case unix.IFA_ADDRESS:
			if !p.IsValid() {
				p = prefix(a.Value, bits)
			}
		case unix.IFA_LOCAL:
			p = prefix(a.Value, bits)
		}
	}
	return p
}

func prefix(addr []byte, bits int) netip.Prefix {
	a, ok := netip.AddrFromSlice(addr)
	if !ok {
		return netip.Prefix{}
	}
	return netip.PrefixFrom(a, bits)
}

// readRoutes lists the routes of the main table, and all that have the protocol number own.
func readRoutes(own int) ([]Route, error) {
	var routes []Route
	err := dump(unix.RTM_GETROUTE, unix.RTM_NEWROUTE, func(m *syscall.NetlinkMessage, attrs []syscall.NetlinkRouteAttr) {
		if len(m.Data) < unix.SizeofRtMsg {
			return
		}
		family, bits, table, flags := m.Data[0], int(m.Data[1]), int(m.Data[4]), binary.NativeEndian.Uint32(m.Data[8:])
		r := Route{Protocol: int(m.Data[5]), Unicast: m.Data[7] == unix.RTN_UNICAST}
		switch family {
		case unix.AF_INET:
			r.Prefix = netip.PrefixFrom(netip.IPv4Unspecified(), bits)
		case unix.AF_INET6:
			r.Prefix = netip.PrefixFrom(netip.IPv6Unspecified(), bits)
		default:
			return
		}
		for _, a := range attrs {
			switch a.Attr.Type & attributeType {
			case unix.RTA_DST:
				r.Prefix = prefix(a.Value, bits)
			case unix.RTA_OIF:
				r.Link = number(a.Value)
			case unix.RTA_PRIORITY:
				r.Metric = number(a.Value)
			case unix.RTA_TABLE:
				table = number(a.Value)
			}
		}
		r.Main = table == unix.RT_TABLE_MAIN
		if flags&unix.RTM_F_CLONED == 0 && r.Prefix.IsValid() && (r.Main || r.Protocol == own) {
			routes = append(routes, r)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	return routes, nil
}

// dump has the kernel list all of a kind, and calls each with every entry of the type that it answers with.
func dump(ask int, answer uint16, each func(*syscall.NetlinkMessage, []syscall.NetlinkRouteAttr)) error {
	b, err := syscall.NetlinkRIB(ask, unix.AF_UNSPEC)
	if err != nil {
		return err
	}
	messages, err := syscall.ParseNetlinkMessage(b)
	if err != nil {
		return err
	}
	for i := range messages {
		if messages[i].Header.Type != answer {
			continue
		}
		attrs, err := syscall.ParseNetlinkRouteAttr(&messages[i])
		if err != nil {
			return err
		}
		each(&messages[i], attrs)
	}
	return nil
}

func text(b []byte) string { return strings.TrimRight(string(b), "\x00") }

// number is 0 where b is no number of 32 bits.
func number(b []byte) int {
	if len(b) < 4 {
		return 0
	}
	return int(binary.NativeEndian.Uint32(b))
}
