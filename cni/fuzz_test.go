package cni

import (
	"bytes"
	"testing"

	"github.com/weft-net/weft/cni/wiring"
)

// FuzzPlugin runs the plugin by skel's entry, as a process would be. Whatever comes in, the plugin does not panic; an error has a
// code of the specification's or of weft's own; and one of ADD leaves nothing, as DEL does in any case.
func FuzzPlugin(f *testing.F) {
	good := `{"cniVersion":"1.1.0","name":"weft","type":"weft-cni"}`
	for _, stdin := range []string{
		good, ``, `{`, `null`, `[]`, "\xff", `{"cniVersion":"1.1.0","name":"weft","wiring":"bridge","bridge":"cni0","mtu":1300}`,
		`{"cniVersion":"0.3.1","name":"weft","mtu":-1}`, `{"cniVersion":7,"name":"weft"}`, `{"cniVersion":"1","name":"weft"}`,
		`{"cniVersion":"1.1.0","name":"weft","runtimeConfig":{"ips":["10.244.1.7/24","::ffff:10.244.1.7","fe80::1%eth0"]}}`,
		`{"cniVersion":"1.1.0","name":"weft","prevResult":{"interfaces":[null],"ips":[null,{}],"routes":[null]}}`,
		`{"cniVersion":"0.4.0","name":"weft","prevResult":{"cniVersion":"0.4.0","ips":[{"version":"4","address":"10.244.1.2/32"}]}}`,
		`{"cniVersion":"1.1.0","name":"weft","cni.dev/valid-attachments":[{"containerID":"a","ifname":"eth0"},{}]}`,
		`{"cniVersion":"1.1.0","name":"weft","dns":{"nameservers":["x"]},"unknown":{"a":[1,2]},"NAME":"x"}`,
	} {
		for _, command := range []string{"ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION"} {
			f.Add(command, "a", sandbox, "eth0", "IP=10.244.1.7;IgnoreUnknown=1", []byte(stdin))
		}
	}
	f.Add("", "a", sandbox, "eth0", "", []byte(good))
	f.Add("ADD", "../a", sandbox, "eth0", "", []byte(good))
	f.Add("ADD", "a:b", "/proc/self/ns/net", "eth0123456789012", ";;=;IP==", []byte(good))
	f.Add("ADD", "a", "/dev/null", "\x7f", "K8S_POD_NAME=x;IP=::ffff:1.2.3.4", []byte(good))
	f.Add("DEL", "a", "/dev/null", "eth\x00", "", []byte(good))
	f.Fuzz(func(t *testing.T, command, container, netns, ifname, args string, stdin []byte) {
		b := newBed(t)
		if b.call("ADD", "a-neighbour", "") != 0 {
			t.Fatal("a pod cannot be added")
		}
		given := map[string]string{"CNI_COMMAND": command, "CNI_CONTAINERID": container, "CNI_NETNS": netns, "CNI_IFNAME": ifname, "CNI_ARGS": args, "CNI_PATH": "/opt/cni/bin"}
		err := b.main(given, stdin)
		if err != nil && !(err.Code >= 1 && err.Code <= 8 || err.Code == 11 || err.Code >= 100 && err.Code <= 104) {
			t.Errorf("code %d: %v", err.Code, err)
		}
		if err == nil && command == "ADD" {
			decodeJSON(t, b.out.Bytes())
			if err := b.main(with(given, "CNI_COMMAND", "DEL"), stdin); err != nil {
				t.Errorf("DEL after ADD: %v", err)
			}
		}
		neighbour := wiring.Device("a-neighbour", "eth0")
		if _, there := b.kernel.ports[neighbour]; command != "GC" && (!there || len(b.kernel.ports) != 1 || len(b.held()) != 1) {
			t.Errorf("%s: left are the records of %v and the links %v; want the neighbour's", command, b.held(), b.kernel.ports)
		}
	})
}

func with(environment map[string]string, name, value string) map[string]string {
	environment[name] = value
	return environment
}

// TestLargeStdin: no runtime writes 10 MB, but a broken one might.
func TestLargeStdin(t *testing.T) {
	b := newBed(t)
	environment := map[string]string{"CNI_COMMAND": "ADD", "CNI_CONTAINERID": "a", "CNI_IFNAME": "eth0", "CNI_NETNS": sandbox, "CNI_PATH": "/opt/cni/bin"}
	large := bytes.Repeat([]byte("["), 10<<20)
	if err := b.main(environment, large); err == nil || err.Code != 6 {
		t.Errorf("10 MB of brackets: %v, want code 6", err)
	}
	b.empty("10 MB of brackets")
	padded := append([]byte(`{"cniVersion":"1.1.0","name":"weft","padding":"`), bytes.Repeat([]byte("x"), 10<<20)...)
	if err := b.main(environment, append(padded, `"}`...)); err != nil {
		t.Errorf("10 MB of a field that is another's: %v", err)
	}
}
