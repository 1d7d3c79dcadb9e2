package config

import (
	"fmt"
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
			{"127.0.0.0/8", "!RFC 6890"}, {"224.0.1.0/24", "!RFC 6890"}, {"169.254.1.0/24", "!RFC 6890"},
			{"", "!is empty; write auto, or for instance"}, {" ", "!is empty"}, {"pods", `!"pods" is neither auto nor a prefix; write auto`},
			{"auto", "auto"}, {" auto ", "auto"}, {"Auto", "!neither auto nor a prefix"}, {"auto,", "!auto beside something else"}, {"auto,auto", "!auto beside something else"}, {"10.244.1.0/24,auto", "!auto beside something else"}, {"10.244.1.0/024", "!is not a prefix"},
			{"fd00:10:244:1::/64", "fd00:10:244:1::/64"}, {"fd00::/8", "fd00::/8"}, {"fd00::ff00/120", "fd00::ff00/120"}, {"2001:db8::/32", "2001:db8::/32"},
			{"FD00:0::/64", "fd00::/64"}, {"fd00::/121", "!prefix length of 121; it must be from 8 to 120"}, {"fc00::/7", "!prefix length of 7"},
			{"fd00::1", `!"fd00::1" has no prefix length; write for instance fd00::/64`}, {"fd00::1/64", "!has bits set after the prefix; write fd00::/64"},
			{"fe80::%eth0", "!is not a prefix"}, {"::ffff:10.244.1.0", "!is not a prefix"}, {"::ffff:10.244.1.0/120", "!is IPv4 written as IPv6; write it as IPv4, for instance 10.244.1.0/24"},
			{"fe80::/64", "!RFC 6890"}, {"ff00::/64", "!RFC 6890"}, {"::/64", "!RFC 6890"}, {"64:ff9b::/96", "!RFC 6890"},
			{"fd00::/64, 10.244.1.0/24", "fd00::/64,10.244.1.0/24"}, {"10.244.1.0/24,", "!\"\" is not a prefix"},
			{"10.244.1.0/24,10.244.1.0/24", "!overlap"}, {"10.0.0.0/28" + many(16), "!has more than 16 prefixes"}, {"10.0.0.0/28" + many(15), "10.0.0.0/28" + many(15)},
		},
		"podNetwork": {{"auto", "!is not a prefix"}, {"", "!is empty; write for instance"}},
		"blockSize4": {{"9", "9"}, {"30", "30"}, {"8", "!give a number of bits from 9 to 30"}, {"31", "!give a number of bits from 9 to 30"}, {"/24", "!not the length"}, {"", "!not the length"}},
		"blockSize6": {{"9", "9"}, {"126", "126"}, {"127", "!give a number of bits from 9 to 126"}, {"-64", "!not the length"}},
		"mode":       {{"direct", "direct"}, {"vxlan", "vxlan"}, {"Auto", "!neither auto"}, {"", "!neither auto"}},
		"tunnel":     {{"vxlan", "vxlan"}, {"direct", "!neither udp nor vxlan"}, {"", "!neither udp"}},
		"metricsAddress": {
			{"", ""}, {"127.0.0.1:8286", "127.0.0.1:8286"}, {"[::1]:1", "[::1]:1"}, {":65535", ":65535"}, {"0.0.0.0:8286", "0.0.0.0:8286"},
			{"8286", "!is no address with a port; write for instance"}, {"::1:8286", "!is no address with a port"}, {"127.0.0.1:0", "!has no port from 1"},
			{":65536", "!has no port"}, {":http", "!has no port"}, {"localhost:8286", "!write it in numbers, for instance 127.0.0.1:8286, or leave it out, :8286"},
			{"224.0.0.1:8286", "!is multicast"},
		},
		"page": {
			{"", ""}, {"socket", "socket"}, {"127.0.0.1:8287", "127.0.0.1:8287"}, {"127.8.9.1:80", "127.8.9.1:80"}, {"[::1]:1", "[::1]:1"},
			{"[::ffff:127.0.0.1]:80", "[::ffff:127.0.0.1]:80"},
			{"Socket", "!is neither socket nor a loopback address with a port"}, {"8287", "!is neither socket nor"}, {"127.0.0.1:0", "!has no port from 1"},
			{"127.0.0.1:70000", "!has no port from 1"}, {"localhost:8287", "!write it in numbers, 127.0.0.1:8287 or [::1]:8287"},
			{"0.0.0.0:8287", "!can be reached by other machines, and the page asks for no password; write 127.0.0.1:8287, and open it elsewhere through `ssh -L 8287:127.0.0.1:8287`"},
			{":8287", "!can be reached by other machines"}, {"[::]:8287", "!can be reached by other machines"}, {"192.0.2.1:8287", "!can be reached by other machines"},
			{"node-a:8287", "!can be reached by other machines"}, {"[fe80::1%eth0]:8287", "!can be reached by other machines"},
		},
		"firewall": {{"manage", "manage"}, {"off", "!neither check nor manage"}},
		"vni":      {{"0", "0"}, {"16777215", "16777215"}, {"16777216", "!not a VNI"}, {"-1", "!not a VNI"}, {"", "!not a VNI"}, {"0x1", "!not a VNI"}},
		"staticPeers": {
			{"", ""},
			{linux1, "name=linux1 address=192.0.2.9 podCIDR=10.244.9.0/24 mode=vxlan vtepMAC=02:00:00:00:00:09"},
			{linux1 + " mode=vxlan vni=0 port=4789 mtu=1450", "name=linux1 address=192.0.2.9 podCIDR=10.244.9.0/24 mode=vxlan vtepMAC=02:00:00:00:00:09 vni=0 port=4789 mtu=1450"},
			{"mode=direct  podCIDR=10.244.8.0/24,fd00:10:244:8::/64\tname=r address=2001:db8::8", "name=r address=2001:db8::8 podCIDR=10.244.8.0/24,fd00:10:244:8::/64 mode=direct"},
			{linux1 + " vni=7, name=f address=192.0.2.8 podCIDR=10.244.8.0/24, fd00::/64 mode=udp port=8285",
				"name=linux1 address=192.0.2.9 podCIDR=10.244.9.0/24 mode=vxlan vtepMAC=02:00:00:00:00:09 vni=7,name=f address=192.0.2.8 podCIDR=10.244.8.0/24,fd00::/64 mode=udp port=8285"},
			{"linux1", `!"linux1" is not key=value; write for instance name=linux1 address=`},
			{linux1 + ",", "!is not the MAC address of a device"}, {",", `!is not key=value`},
			{linux1 + " name=b", "!gives name twice"}, {linux1 + " Vni=1", `!unknown key "Vni"; did you mean vni?`},
			{linux1 + " colour=blue", "!there are name, address, podCIDR, mode, vtepMAC, vni, port, mtu"},
			{"name=a address=192.0.2.9 vtepMAC=02:00:00:00:00:09", "!gives no podCIDR; write for instance"},
			{"name=a address=192.0.2.9 podCIDR=10.244.9.0/24", "!gives no vtepMAC"},
			{"name=a podCIDR=10.244.9.0/24 mode=udp", "!gives no address"}, {"address=192.0.2.9 podCIDR=10.244.9.0/24 mode=udp", "!gives no name"},
			{linux1 + " mode=udp", "!gives vtepMAC, which mode udp has no use for; remove it"},
			{"name=a address=192.0.2.9 podCIDR=10.244.9.0/24 mode=direct port=1", "!gives port, which mode direct has no use for"},
			{"name=", "!name=: is empty"}, {"address=linux1", `!"linux1" is not an address`}, {"address=fe80::1", "!fe80::1 is link-local"},
			{"podCIDR=10.244.9.1/24", "!write 10.244.9.0/24"}, {"mode=auto", `!"auto" is neither vxlan, udp nor direct`}, {"mtu=1279", "!not an MTU"}, {"port=0", "!not a port"},
			{"vtepMAC=03:00:00:00:00:09", "!not the MAC address of a device"}, {"vtepMAC=00:00:00:00:00:00", "!not the MAC"}, {"vtepMAC=02:00:00:00:00:00:00:01", "!not the MAC"},
			{"vni=4294967295", "!not a VNI"},
		},
		"underlay": {
			{"", ""}, {"eth0", "eth0"}, {"192.0.2.1", "192.0.2.1"}, {"eth0.100", "eth0.100"},
			{"192.0.2.1/24", "!give the address alone, 192.0.2.1"}, {"2001:db8::1", "2001:db8::1"}, {"fd00::1", "fd00::1"}, {"0.0.0.0", "!no address that other nodes can reach"},
			{"fe80::1", "!fe80::1 is link-local: it means nothing to a node on another link; give a global or private address"}, {"fe80::1%eth0", "!is link-local"},
			{"169.254.1.1", "!is link-local"}, {"fd00::1%eth0", "!has a zone, which means nothing to other nodes; write fd00::1"}, {"::", "!no address"},
			{"ff02::1", "!no address"}, {"::ffff:192.0.2.1", "!is IPv4 written as IPv6; write 192.0.2.1"}, {"2001:db8::1/64", "!give the address alone, 2001:db8::1"},
			{"averylonginterface", "!has 18 bytes"}, {"eth0:1", "!cannot name an interface"},
		},
		"gossipAddr": {
			{"", ""}, {"192.0.2.1", "192.0.2.1"}, {"eth0", "!not an address"}, {"fd00::1", "fd00::1"}, {"239.0.0.1", "!no address that other nodes can reach"},
			{"fe80::1", "!is link-local"}, {"255.255.255.255", "!no address"},
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
		"mtu":           {{"0", "0"}, {"1280", "1280"}, {"65507", "65507"}, {"1279", "!not an MTU"}, {"65508", "!not an MTU"}, {"-1", "!not an MTU"}, {"1500B", "!not an MTU"}},
		"offload":       {{"off", "off"}, {"", "!neither auto"}, {"On", "!neither auto"}},
		"workers":       {{"0", "0"}, {"128", "128"}, {"129", "!not a number of workers"}, {"-1", "!not a number of workers"}, {"two", "!not a number of workers"}},
		"offloadExcept": {{"", ""}, {"rco, tso", "tso,rco"}, {"tso,tso", "tso"}, {"lro", "!there are tso, uso, gso, gro, rco"}, {"tso,", "!no feature \"\""}},
		"deadGrace":     {{"0s", "0s"}, {"1h", "1h0m0s"}, {"90s", "1m30s"}, {"61m", "!out of range"}, {"-1s", "!out of range"}, {"5", "!write 5s"}, {"soon", "!not a duration"}},
		"forgetAfter": {
			{"never", "never"}, {"0", "never"}, {"0s", "never"}, {"1h", "1h"}, {"168h", "168h"}, {"90m", "1h30m"}, {"3601s", "1h0m1s"}, {"70m10s", "1h10m10s"},
			{"59m59s", "!is too short"}, {"1s", "!give at least 1h, or never"}, {"-1h", "!is too short"}, {"7d", "!not a duration; write for instance 168h, or never"}, {"", "!not a duration"}, {"Never", "!not a duration"}, {"5", "!not a duration"},
		},
		"logLevel":  {{"debug", "debug"}, {"error", "error"}, {"INFO", "!not a log level"}, {"info+2", "!not a log level"}},
		"logFormat": {{"json", "json"}, {"", "!not a log format"}},
		"socket":    {{"/run//weft/x", "/run/weft/x"}, {"", "!is empty"}, {"/" + strings.Repeat("x", 107), "!has 108 bytes"}, {"/\x00", "!zero byte"}},
		"stateDir":  {{"/var/lib/weft/", "/var/lib/weft"}, {"", "!is empty"}},
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

// many returns n more prefixes of the kind 10.0.1.0/28.
func many(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, ",10.0.%d.0/28", i+1)
	}
	return b.String()
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
