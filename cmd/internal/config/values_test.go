package config

import (
	"strings"
	"testing"
)

// TestValues gives each parser texts, and the text that the value is shown as or, after an exclamation mark, a
// part of the error.
func TestValues(t *testing.T) {
	byName := map[string]definition{}
	for _, d := range definitions("") {
		byName[d.name] = d
	}
	for key, texts := range map[string][][2]string{
		"nodeName": {
			{"a", "a"}, {"Knoten ä", "Knoten ä"}, {strings.Repeat("ä", 31) + "x", strings.Repeat("ä", 31) + "x"},
			{"", "!is empty"}, {"  ", "!is empty"}, {" a", "!starts or ends with a space"}, {"a\x1b[31m", "!cannot be printed"},
			{"\xff", "!cannot be printed"}, {strings.Repeat("ä", 32), "!has 64 bytes"},
		},
		"podCIDR": {
			{"10.244.1.0/24", "10.244.1.0/24"}, {"10.0.0.0/8", "10.0.0.0/8"}, {"10.244.1.4/30", "10.244.1.4/30"},
			{"10.244.1.5/24", "!10.244.1.5/24 has bits set after the prefix; write 10.244.1.0/24"},
			{"10.244.1.0", "!has no prefix length; write for instance 10.244.1.0/24"},
			{"10.244.1.4/31", "!prefix length of 31"}, {"10.0.0.0/7", "!prefix length of 7"}, {"0.0.0.0/0", "!prefix length of 0"},
			{"fd00::/64", "!is IPv6, which this version does not carry"}, {"::ffff:10.244.1.0/120", "!is IPv6"},
			{"127.0.0.0/8", "!RFC 6890"}, {"224.0.1.0/24", "!RFC 6890"}, {"169.254.1.0/24", "!RFC 6890"},
			{"", "!is not an IPv4 prefix"}, {"pods", "!is not an IPv4 prefix"}, {"10.244.1.0/024", "!is not an IPv4 prefix"}, {"fd00::1", "!is not an IPv4 prefix"},
		},
		"underlay": {
			{"", ""}, {"eth0", "eth0"}, {"192.0.2.1", "192.0.2.1"}, {"eth0.100", "eth0.100"},
			{"192.0.2.1/24", "!give the address alone, 192.0.2.1"}, {"fd00::1", "!is IPv6"}, {"0.0.0.0", "!no address that peers can reach"},
			{"averylonginterface", "!has 18 bytes"}, {"eth0:1", "!cannot name an interface"},
		},
		"gossipAddr": {
			{"", ""}, {"192.0.2.1", "192.0.2.1"}, {"eth0", "!not an IPv4 address"}, {"fd00::1", "!is IPv6"}, {"239.0.0.1", "!no address that peers can reach"},
		},
		"dataPort": {
			{"1", "1"}, {"65535", "65535"}, {"0", "!not a port"}, {"65536", "!not a port"}, {"-1", "!not a port"}, {"", "!not a port"}, {"8285/udp", "!not a port"},
		},
		"join": {
			{"", ""}, {"a", "a"}, {"a:1, b", "a:1,b"}, {"node_1.example.net.", "node_1.example.net."}, {"192.0.2.1:7946", "192.0.2.1:7946"},
			{"[fd00::1]", "[fd00::1]"}, {"[fd00::1]:7946", "[fd00::1]:7946"}, {"[fe80::1%eth0]:1", "[fe80::1%eth0]:1"},
			{"fd00::1", "!is IPv6 without brackets; write [fd00::1]"}, {"[fd00::1", "!not an IPv6 address in brackets"},
			{"[192.0.2.1]:1", "!not an IPv6 address in brackets"}, {"[fd00::1]x", "!not an IPv6 address in brackets"},
			{"a:b:c", "!neither host nor host:port"}, {"192.0.2.300", "!neither a host name nor an IPv4 address"},
			{"192.0.2", "!neither a host name"}, {"http://a", "!not a port"}, {"-a", "!neither a host name"}, {"a..b", "!neither a host name"},
			{strings.Repeat("a", 64), "!neither a host name"}, {strings.Repeat("a.", 127) + "a", "!neither a host name"},
			{":7946", "!neither a host name"}, {"a:", "!not a port"}, {"a:70000", "!not a port"}, {"a,", "!empty entry"}, {"a b", "!neither a host name"},
		},
		"insecure": {{"true", "true"}, {"0", "false"}, {"yes", "!neither true nor false"}, {"", "!neither true nor false"}},
		"tun": {
			{"weft0", "weft0"}, {"123456789012345", "123456789012345"},
			{"", "!is empty"}, {"1234567890123456", "!has 16 bytes"}, {"a b", "!cannot name"}, {"a/b", "!cannot name"}, {"a:b", "!cannot name"},
			{".", "!cannot name"}, {"..", "!cannot name"}, {"a\n", "!cannot name"}, {"weft%d", "!cannot name"},
		},
		"mtu":           {{"0", "0"}, {"576", "576"}, {"65507", "65507"}, {"575", "!not an MTU"}, {"65508", "!not an MTU"}, {"-1", "!not an MTU"}, {"1500B", "!not an MTU"}},
		"offload":       {{"off", "off"}, {"", "!neither auto"}, {"On", "!neither auto"}},
		"workers":       {{"0", "0"}, {"128", "128"}, {"129", "!not a number of workers"}, {"-1", "!not a number of workers"}, {"two", "!not a number of workers"}},
		"offloadExcept": {{"", ""}, {"rco, tso", "tso,rco"}, {"tso,tso", "tso"}, {"lro", "!there are tso, uso, gso, gro, rco"}, {"tso,", "!no feature \"\""}},
		"deadGrace":     {{"0s", "0s"}, {"1h", "1h0m0s"}, {"90s", "1m30s"}, {"61m", "!out of range"}, {"-1s", "!out of range"}, {"5", "!write 5s"}, {"soon", "!not a duration"}},
		"logLevel":      {{"debug", "debug"}, {"error", "error"}, {"INFO", "!not a log level"}, {"info+2", "!not a log level"}},
		"logFormat":     {{"json", "json"}, {"", "!not a log format"}},
		"socket":        {{"/run//weft/x", "/run/weft/x"}, {"", "!is empty"}, {"/" + strings.Repeat("x", 107), "!has 108 bytes"}, {"/\x00", "!zero byte"}},
		"stateDir":      {{"/var/lib/weft/", "/var/lib/weft"}, {"", "!is empty"}},
	} {
		for _, test := range texts {
			v := byName[key].bind(new(Config))
			err := v.Set(test[0])
			want, wantErr := strings.CutPrefix(test[1], "!")
			switch {
			case wantErr && err == nil:
				t.Errorf("%s: %q is accepted, want an error with %q", key, test[0], want)
			case wantErr && !strings.Contains(err.Error(), want):
				t.Errorf("%s: %q: got error %q, want %q", key, test[0], err, want)
			case wantErr && strings.Contains(err.Error(), "\n"):
				t.Errorf("%s: %q: error is not one line: %q", key, test[0], err)
			case !wantErr && err != nil:
				t.Errorf("%s: %q: %v", key, test[0], err)
			case !wantErr && v.String() != want:
				t.Errorf("%s: %q is shown as %q, want %q", key, test[0], v.String(), want)
			}
		}
	}
}

func TestSuggest(t *testing.T) {
	names := []string{"podCIDR", "podNetwork", "join", "tun"}
	for given, want := range map[string]string{
		"podCDIR": "podCIDR", "POD_CIDR": "podCIDR", "pod-network": "podNetwork", "joins": "join", "peers": "", "": "",
	} {
		if got := Suggest(given, names); got != want {
			t.Errorf("%q: got %q, want %q", given, got, want)
		}
	}
}
