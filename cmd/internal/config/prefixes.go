package config

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// maxPrefixes is how many blocks a node's record holds (package membership).
const maxPrefixes = 16

// ParseCIDRs reads blocks of pods with commas between, at least one, by the rules of podCIDR.
func ParseCIDRs(s string) ([]netip.Prefix, error) { return parsePrefixes(s) }

// parsePrefixes reads one prefix or several, with commas between.
func parsePrefixes(s string) ([]netip.Prefix, error) {
	if strings.TrimSpace(s) == "" {
		return nil, errors.New("is empty; write for instance 10.244.1.0/24 or fd00:10:244:1::/64")
	}
	var prefixes []netip.Prefix
	for item := range strings.SplitSeq(s, ",") {
		p, err := parsePodPrefix(strings.TrimSpace(item))
		if err != nil {
			return nil, err
		}
		for _, other := range prefixes {
			if p.Overlaps(other) {
				return nil, fmt.Errorf("%s and %s overlap; keep one of them", other, p)
			}
		}
		if prefixes = append(prefixes, p); len(prefixes) > maxPrefixes {
			return nil, fmt.Errorf("has more than %d prefixes; join some of them into larger ones", maxPrefixes)
		}
	}
	return prefixes, nil
}

// autoCIDR is the value of podCIDR by which a node takes blocks by itself.
const autoCIDR = "auto"

// parsePodCIDRs reads a node's blocks, or auto, which is nil.
func parsePodCIDRs(s string) ([]netip.Prefix, error) {
	isAuto := func(item string) bool { return strings.TrimSpace(item) == autoCIDR }
	switch {
	case strings.TrimSpace(s) == "":
		return nil, errors.New("is empty; write auto, or for instance 10.244.1.0/24")
	case isAuto(s):
		return nil, nil
	case slices.ContainsFunc(strings.Split(s, ","), isAuto):
		return nil, fmt.Errorf("%q has auto beside something else; write auto alone, or only blocks", s)
	case !strings.ContainsAny(s, ".:/"):
		return nil, fmt.Errorf("%q is neither auto nor a prefix; write auto, or for instance 10.244.1.0/24", s)
	}
	return parsePrefixes(s)
}

func formatPodCIDRs(prefixes []netip.Prefix) string {
	if len(prefixes) == 0 {
		return autoCIDR
	}
	return formatPrefixes(prefixes)
}

func formatPrefixes(prefixes []netip.Prefix) string { return joined(prefixes, ",") }

func joined[T fmt.Stringer](items []T, separator string) string {
	texts := make([]string, len(items))
	for i, item := range items {
		texts[i] = item.String()
	}
	return strings.Join(texts, separator)
}

// The shortest prefixes are those of the largest private networks, 10.0.0.0/8 (RFC 1918) and fd00::/8 (RFC 4193).
// The longest leave the four addresses that a network, a gateway, a pod and a broadcast address take, and in IPv6,
// where addresses are not scarce, 256.
const (
	minPodBits  = 8
	maxPodBits4 = 30
	maxPodBits6 = 120
)

// The longest prefixes of blocks that are taken.
const (
	maxBlockSize4 = maxPodBits4
	maxBlockSize6 = 126
)

func parseBlockSize4(s string) (int, error) { return parseBlockSize(s, maxBlockSize4) }
func parseBlockSize6(s string) (int, error) { return parseBlockSize(s, maxBlockSize6) }

func parseBlockSize(s string, longest int) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n <= minPodBits || n > longest {
		return 0, fmt.Errorf("%q is not the length of a block's prefix; give a number of bits from %d to %d", s, minPodBits+1, longest)
	}
	return n, nil
}

func parsePodPrefix(s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" && !a.Is4In6() {
			return p, fmt.Errorf("%q has no prefix length; write for instance %s", s, netip.PrefixFrom(a, usualBits(a)).Masked())
		}
		return p, fmt.Errorf("%q is not a prefix; write for instance 10.244.1.0/24 or fd00:10:244:1::/64", s)
	}
	longest := maxPodBits4
	if p.Addr().Is6() {
		longest = maxPodBits6
	}
	switch {
	case p.Addr().Is4In6():
		return p, fmt.Errorf("%s is IPv4 written as IPv6; write it as IPv4, for instance %s", s, netip.PrefixFrom(p.Addr().Unmap(), 24).Masked())
	case p.Bits() < minPodBits || p.Bits() > longest:
		return p, fmt.Errorf("%s has a prefix length of %d; it must be from %d to %d", s, p.Bits(), minPodBits, longest)
	case p != p.Masked():
		return p, fmt.Errorf("%s has bits set after the prefix; write %s", s, p.Masked())
	}
	return p, checkReserved(p)
}

// usualBits is the length of a node's block where nobody chose another.
func usualBits(a netip.Addr) int {
	if a.Is6() {
		return 64
	}
	return 24
}

func checkReserved(p netip.Prefix) error {
	for _, reserved := range []string{"0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "::/8", "fe80::/10", "ff00::/8"} {
		if r := netip.MustParsePrefix(reserved); p.Overlaps(r) {
			return fmt.Errorf("%s lies in %s, which hosts treat specially (RFC 6890); take a private network such as 10.244.0.0/16 or fd00:10:244::/48", p, r)
		}
	}
	return nil
}
