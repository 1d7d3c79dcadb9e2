package config

import (
	"fmt"
	"net/netip"
	"strings"
	"unicode/utf8"
)

// parseJoin reads a list separated by commas. An empty text is an empty list.
func parseJoin(s string) ([]HostPort, error) {
	if strings.TrimSpace(s) == "" {
		return nil, nil
	}
	var join []HostPort
	for item := range strings.SplitSeq(s, ",") {
		h, err := parseHostPort(strings.TrimSpace(item))
		if err != nil {
			return nil, err
		}
		join = append(join, h)
	}
	return join, nil
}

// parseHostPort reads host, host:port, [IPv6] or [IPv6]:port.
func parseHostPort(s string) (HostPort, error) {
	host, port, hasPort := s, "", false
	switch {
	case s == "":
		return HostPort{}, fmt.Errorf("has an empty entry; give host or host:port")
	case s[0] == '[':
		var rest string
		var closed bool
		host, rest, closed = strings.Cut(s[1:], "]")
		port, hasPort = strings.CutPrefix(rest, ":")
		if a, err := netip.ParseAddr(host); !closed || err != nil || !a.Is6() || rest != "" && !hasPort {
			return HostPort{}, fmt.Errorf("%q is not an IPv6 address in brackets; write [2001:db8::1] or [2001:db8::1]:7946", s)
		}
	case strings.Count(s, ":") > 1:
		if a, err := netip.ParseAddr(s); err == nil {
			return HostPort{}, fmt.Errorf("%q is IPv6 without brackets; write [%s]", s, a)
		}
		return HostPort{}, fmt.Errorf("%q is neither host nor host:port", s)
	default:
		host, port, hasPort = strings.Cut(s, ":")
		if !validHost(host) {
			return HostPort{}, fmt.Errorf("%q is neither a host name nor an IPv4 address; write host or host:port", s)
		}
	}
	h := HostPort{Host: host}
	if hasPort {
		p, err := parsePort(port)
		if err != nil {
			return HostPort{}, fmt.Errorf("%q: %w", s, err)
		}
		h.Port = p
	}
	return h, nil
}

// validHost reports whether s is an IPv4 address or a host name (RFC 1123 section 2.1; underscores are let
// through, as resolvers do). A name whose last label is all digits is a mistyped address.
func validHost(s string) bool {
	if a, err := netip.ParseAddr(s); err == nil {
		return a.Is4()
	}
	name := strings.TrimSuffix(s, ".")
	if len(name) > 253 || !utf8.ValidString(name) {
		return false
	}
	labels := strings.Split(name, ".")
	for _, l := range labels {
		if l == "" || len(l) > 63 || l[0] == '-' || l[len(l)-1] == '-' || strings.ContainsFunc(l, badInLabel) {
			return false
		}
	}
	return strings.ContainsFunc(labels[len(labels)-1], func(r rune) bool { return r < '0' || r > '9' })
}

func badInLabel(r rune) bool {
	letter := 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
	digit := '0' <= r && r <= '9'
	return !letter && !digit && r != '-' && r != '_'
}
