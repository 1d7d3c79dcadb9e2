package cni

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types/create"
	"github.com/google/go-cmp/cmp"

	"github.com/weft-net/weft/cni/wiring"
)

const routedResult = `{
	"cniVersion": "1.1.0",
	"interfaces": [
		{"name": "DEVICE", "mac": "02:00:00:00:00:01", "mtu": 1420},
		{"name": "eth0", "mac": "02:00:00:00:00:02", "mtu": 1420, "sandbox": "/run/netns/pod"}
	],
	"ips": [
		{"interface": 1, "address": "10.244.1.2/32", "gateway": "169.254.1.1"},
		{"interface": 1, "address": "fd00:244:1::2/128", "gateway": "fe80::1"}
	],
	"routes": [{"dst": "0.0.0.0/0", "gw": "169.254.1.1"}, {"dst": "::/0", "gw": "fe80::1"}],
	"dns": {"nameservers": ["10.96.0.10"], "search": ["cluster.local"]}
}`

const bridgeResult = `{
	"cniVersion": "1.1.0",
	"interfaces": [
		{"name": "br7", "mac": "02:00:00:00:00:03"},
		{"name": "DEVICE", "mac": "02:00:00:00:00:01", "mtu": 1300},
		{"name": "eth0", "mac": "02:00:00:00:00:02", "mtu": 1300, "sandbox": "/run/netns/pod"}
	],
	"ips": [
		{"interface": 2, "address": "10.244.1.2/24", "gateway": "10.244.1.1"},
		{"interface": 2, "address": "fd00:244:1::2/64", "gateway": "fd00:244:1::1"}
	],
	"routes": [{"dst": "0.0.0.0/0", "gw": "10.244.1.1"}, {"dst": "::/0", "gw": "fd00:244:1::1"}]
}`

func TestResult(t *testing.T) {
	for config, want := range map[string]string{
		`"dns":{"nameservers":["10.96.0.10"],"search":["cluster.local"]},"mtu":9000`: routedResult,
		`"wiring":"bridge","bridge":"br7","mtu":1300`:                                bridgeResult,
	} {
		b := newBed(t)
		b.want(b.call("ADD", "a", config), 0)
		want = strings.ReplaceAll(want, "DEVICE", wiring.Device("a", "eth0"))
		if diff := cmp.Diff(decodeJSON(t, []byte(want)), decodeJSON(t, b.out.Bytes())); diff != "" {
			t.Errorf("%s (-want +got):\n%s", config, diff)
		}
	}
}

// TestVersions reads the result as a runtime of each version does, and hands it back in CHECK.
func TestVersions(t *testing.T) {
	b := newBed(t)
	for i, v := range Versions().SupportedVersions() {
		environment := map[string]string{"CNI_COMMAND": "ADD", "CNI_CONTAINERID": fmt.Sprint("pod-", i), "CNI_IFNAME": "eth0", "CNI_NETNS": sandbox, "CNI_PATH": "/opt/cni/bin"}
		config := fmt.Sprintf(`{"cniVersion":%q,"name":"weft","type":"weft-cni"`, v)
		if err := b.main(environment, []byte(config+"}")); err != nil {
			t.Fatalf("%s: %v", v, err)
		}
		text := bytes.Clone(b.out.Bytes())
		result, err := create.Create(v, text)
		if err != nil || result.Version() != v {
			t.Errorf("%s: %v in %s", v, err, text)
		}
		environment["CNI_COMMAND"] = "CHECK"
		checkErr := b.main(environment, fmt.Appendf(nil, "%s,\"prevResult\":%s}", config, text))
		if v == "0.3.1" { // has no CHECK
			if checkErr == nil || checkErr.Code != 1 {
				t.Errorf("%s: CHECK: %v", v, checkErr)
			}
		} else if checkErr != nil {
			t.Errorf("%s: CHECK: %v", v, checkErr)
		}
	}
	if want := []string{"0.3.1", "0.4.0", "1.0.0", "1.1.0"}; !slices.Equal(Versions().SupportedVersions(), want) {
		t.Errorf("versions %v, want %v", Versions().SupportedVersions(), want)
	}
}

// TestRefusals has what makes no sense refused under the code that the specification gives it, and nothing changed.
func TestRefusals(t *testing.T) {
	for _, test := range []struct {
		command, variable, value, config string
		code                             uint
		says                             string
	}{
		{"ADD", "", "", `{`, 6, "unmarshall"},
		{"ADD", "", "", ``, 6, "unmarshall"},
		{"ADD", "", "", `[]`, 6, "unmarshall"},
		{"ADD", "", "", `null`, 7, "name"},
		{"ADD", "", "", `{"cniVersion":"1.0.0"}`, 7, "name"},
		{"ADD", "", "", `{"cniVersion":"1.0.0","name":"../weft"}`, 7, "name"},
		{"ADD", "", "", `{"cniVersion":"0.3.0","name":"weft"}`, 1, "version"},
		{"ADD", "", "", `{"cniVersion":"2.0.0","name":"weft"}`, 1, "version"},
		{"ADD", "", "", `{"name":"weft"}`, 1, "version"},
		{"ADD", "", "", `{C,"mtu":"1400"}`, 6, "mtu"},
		{"ADD", "", "", `{C,"mtu":1400.5}`, 6, "mtu"},
		{"ADD", "", "", `{C,"wiring":["routed"]}`, 6, "wiring"},
		{"ADD", "", "", `{C,"dns":[]}`, 6, "dns"},
		{"ADD", "", "", `{C,"runtimeConfig":{"ips":"10.244.1.7"}}`, 6, "ips"},
		{"ADD", "", "", `{C,"args":{"cni":{"ips":[7]}}}`, 6, "ips"},
		{"ADD", "", "", `{C,"wiring":"macvlan"}`, 7, "routed or bridge"},
		{"ADD", "", "", `{C,"wiring":"bridge","bridge":"a/b"}`, 7, "bridge"},
		{"ADD", "", "", `{C,"wiring":"bridge","bridge":"0123456789abcdef"}`, 7, "bridge"},
		{"ADD", "", "", `{C,"mtu":1279}`, 7, "1280"},
		{"ADD", "", "", `{C,"mtu":-1}`, 7, "1280"},
		{"ADD", "", "", `{C,"mtu":65536}`, 7, "65535"},
		{"ADD", "", "", `{C,"dataDir":"attachments"}`, 7, "absolute"},
		{"ADD", "", "", `{C,"dataDir":""}`, 7, "absolute"},
		{"ADD", "", "", `{C,"prevResult":{}}`, 7, "first"},
		{"ADD", "", "", `{C,"runtimeConfig":{"ips":["10.244.1.7","10.244.1.8"]}}`, 7, "one address of each family"},
		{"ADD", "", "", `{C,"runtimeConfig":{"ips":["::ffff:10.244.1.7"]}}`, 7, "no address"},
		{"ADD", "", "", `{C,"runtimeConfig":{"ips":["10.244.1.7/33"]}}`, 7, "no address"},
		{"ADD", "", "", `{C,"runtimeConfig":{"ips":[""]}}`, 7, "no address"},
		{"ADD", "", "", `{C,"runtimeConfig":{"ips":["10.9.9.9"]}}`, 102, "10.9.9.9"},
		{"ADD", "", "", `{C,"runtimeConfig":{"ips":["10.244.1.1/24"]}}`, 102, "gateway"},
		{"ADD", "", "", `{C,"runtimeConfig":{"ips":["10.244.1.255"]}}`, 102, "broadcast"},
		{"ADD", "CNI_ARGS", "IP=10.244.1", `{C}`, 4, "CNI_ARGS"},
		{"ADD", "CNI_ARGS", "IP=10.244.1.7,10.244.1.8", `{C}`, 4, "CNI_ARGS"},
		{"ADD", "CNI_ARGS", "MAC=02:00:00:00:00:09", `{C}`, 4, "MAC"},
		{"ADD", "CNI_ARGS", "IgnoreUnknown", `{C}`, 4, "KEY=VALUE"},
		{"ADD", "CNI_CONTAINERID", "", `{C}`, 4, "CNI_CONTAINERID"},
		{"ADD", "CNI_CONTAINERID", "a/b", `{C}`, 4, "a/b"},
		{"ADD", "CNI_CONTAINERID", strings.Repeat("a", 201), `{C}`, 4, "CNI_CONTAINERID"},
		{"ADD", "CNI_IFNAME", "", `{C}`, 4, "CNI_IFNAME"},
		{"ADD", "CNI_IFNAME", "eth0123456789012", `{C}`, 4, "interface name"},
		{"ADD", "CNI_IFNAME", "a/b", `{C}`, 4, "interface name"},
		{"ADD", "CNI_IFNAME", "eth%d", `{C}`, 4, "eth%d"},
		{"ADD", "CNI_NETNS", "", `{C}`, 4, "CNI_NETNS"},
		{"ADD", "CNI_NETNS", "/dev/null", `{C}`, 4, "CNI_NETNS"},
		{"ADD", "CNI_PATH", "", `{C}`, 4, "CNI_PATH"},
		{"REMOVE", "", "", `{C}`, 4, "REMOVE"},
		{"DEL", "", "", `{`, 6, "unmarshall"},
		{"DEL", "CNI_CONTAINERID", "../a", `{C}`, 4, "../a"},
		{"CHECK", "", "", `{C}`, 7, "prevResult"},
		{"CHECK", "", "", `{C,"prevResult":null}`, 7, "prevResult"},
		{"CHECK", "", "", `{C,"prevResult":[]}`, 6, "prevResult"},
		{"CHECK", "", "", `{C,"prevResult":{"ips":[{"address":"x"}]}}`, 6, "x"},
		{"CHECK", "", "", `{C,"prevResult":{}}`, 3, "no reservation"},
		{"CHECK", "", "", `{"cniVersion":"0.3.1","name":"weft","prevResult":{}}`, 1, "CHECK"},
		{"GC", "", "", `{C,"cni.dev/valid-attachments":{}}`, 6, "GCAttachment"},
		{"GC", "", "", `{"cniVersion":"1.0.0","name":"weft"}`, 1, "GC"},
		{"STATUS", "", "", `{"cniVersion":"1.0.0","name":"weft"}`, 1, "STATUS"},
	} {
		b := newBed(t)
		environment := map[string]string{"CNI_COMMAND": test.command, "CNI_CONTAINERID": "a", "CNI_IFNAME": "eth0", "CNI_NETNS": sandbox, "CNI_PATH": "/opt/cni/bin"}
		if test.variable != "" {
			environment[test.variable] = test.value
		}
		config := strings.Replace(test.config, "C", `"cniVersion":"1.1.0","name":"weft"`, 1)
		if strings.Contains(test.config, "cniVersion") {
			config = test.config
		}
		err := b.main(environment, []byte(config))
		if err == nil || err.Code != test.code || !strings.Contains(err.Error(), test.says) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s %s=%q %s: %v, want code %d and one line with %q", test.command, test.variable, test.value, test.config, err, test.code, test.says)
		}
		b.empty(test.config)
	}
}

func TestWanted(t *testing.T) {
	for _, test := range []struct{ args, config, want string }{
		{"IP=10.244.1.7", "", "10.244.1.7 fd00:244:1::2"},
		{"IP=10.244.1.7/24,fd00:244:1::7", "", "10.244.1.7 fd00:244:1::7"},
		{"", `"runtimeConfig":{"ips":["fd00:244:1::7/64"]}`, "10.244.1.2 fd00:244:1::7"},
		{"", `"args":{"cni":{"ips":["10.244.1.9"]}},"runtimeConfig":{"ips":["10.244.1.9/24"]}`, "10.244.1.9 fd00:244:1::2"},
		{"IP=;K8S_POD_UID=7", "", "10.244.1.2 fd00:244:1::2"},
	} {
		b := newBed(t)
		b.want(b.callArgs("ADD", &skel.CmdArgs{ContainerID: "a", Netns: sandbox, IfName: "eth0", Args: test.args}, test.config), 0)
		var got []string
		for _, a := range b.kernel.ports[wiring.Device("a", "eth0")].Addresses {
			got = append(got, a.Addr().String())
		}
		if strings.Join(got, " ") != test.want {
			t.Errorf("%s %s: %v, want %s", test.args, test.config, got, test.want)
		}
	}
}

// TestArguments has what Kubernetes says kept for people, and the arguments of other plugins passed over.
func TestArguments(t *testing.T) {
	b := newBed(t)
	args := &skel.CmdArgs{ContainerID: "a", Netns: sandbox, IfName: "eth0",
		Args: "IgnoreUnknown=1;MAC=02:00:00:00:00:09;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0;K8S_POD_INFRA_CONTAINER_ID=a"}
	b.want(b.callArgs("ADD", args, ""), 0)
	a, found, err := b.store.Get(keyOf("a"))
	if err != nil || !found {
		t.Fatal(found, err)
	}
	if a.Pod != "default/web-0" || a.Network != "weft" || a.Netns != sandbox || a.Device != wiring.Device("a", "eth0") {
		t.Errorf("on record is %+v", a)
	}
}

func TestStatus(t *testing.T) {
	for _, test := range []struct {
		daemon fakeDaemon
		code   uint
	}{
		{fakeDaemon{node: Node{Ready: true, Blocks: []netip.Prefix{netip.MustParsePrefix("10.244.1.0/24")}}}, 0},
		{fakeDaemon{err: errors.New("weftd is not running; start it")}, 51},
		{fakeDaemon{node: Node{Reason: "it looks for the other nodes"}}, 51},
		{fakeDaemon{node: Node{Ready: true}}, 50},
	} {
		b := newBed(t)
		b.daemon = test.daemon
		b.want(b.call("STATUS", "", ""), test.code)
		if test.code != 0 {
			b.want(b.call("ADD", "a", ""), 11)
			b.empty("ADD without a ready weftd")
		}
	}
}

// failingWriter is a pipe whose reader has gone.
type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

func TestResultThatNobodyReads(t *testing.T) {
	b := newBed(t)
	b.plugin.out = failingWriter{}
	b.want(b.call("ADD", "a", ""), 5)
	b.empty("ADD whose result could not be printed")
}
