package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"

	"github.com/weft-net/weft/cmd/internal/control"
)

// wire makes a packet of layers, outermost first.
func wire(t testing.TB, all ...gopacket.SerializableLayer) []byte {
	t.Helper()
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true}, all...); err != nil {
		t.Fatal(err)
	}
	return slices.Clone(buf.Bytes())
}

func ip4(protocol layers.IPProtocol, src, dst string) *layers.IPv4 {
	return &layers.IPv4{Version: 4, TTL: 64, Protocol: protocol, SrcIP: net.ParseIP(src).To4(), DstIP: net.ParseIP(dst).To4()}
}

// sampleCapture is a packet of each kind, and sampleLines what weft prints of them behind the time.
func sampleCapture(t testing.TB) []control.CapturedPacket {
	tcp := wire(t, ip4(6, "10.244.1.10", "10.244.2.20"), &layers.TCP{SrcPort: 4000, DstPort: 80, Seq: 7, Ack: 9, ACK: true, PSH: true, Window: 512}, gopacket.Payload(make([]byte, 60)))
	udp := wire(t, ip4(17, "10.244.2.20", "10.244.1.10"), &layers.UDP{SrcPort: 53, DstPort: 4001}, gopacket.Payload("answer"))
	ping := wire(t, ip4(1, "10.244.1.10", "10.244.2.20"), &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(8, 0), Id: 3, Seq: 4})
	six := wire(t, &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: 17, SrcIP: net.ParseIP("fd00::1"), DstIP: net.ParseIP("fd00::2")},
		&layers.UDP{SrcPort: 1, DstPort: 2}, gopacket.Payload("six"))
	outer := func(port layers.UDPPort, in ...byte) []byte {
		return wire(t, ip4(17, "192.0.2.1", "192.0.2.2"), &layers.UDP{SrcPort: 61440, DstPort: port}, gopacket.Payload(in))
	}
	gue := append([]byte{2, 4, 0, 1, 0x80, 0, 0, 0, 0, 20, 0, 36}, tcp...)
	vxlan := append([]byte{8, 0, 0, 0, 0, 0, 7, 0, 2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0}, udp...)

	out, in := control.CaptureOut, control.CaptureIn
	inner, around := control.CaptureInner, control.CaptureOuter
	at := now.Add(123456 * time.Microsecond)
	return []control.CapturedPacket{
		{Time: at, Direction: out, Layer: inner, Peer: "node2", Length: 64040, Segments: 46, SegmentSize: 1400, Partial: true, Data: tcp},
		{Time: at, Direction: out, Layer: around, Peer: "node2", Length: 140, Segments: 1, Data: outer(8285, gue...)},
		{Time: at, Direction: in, Layer: around, Peer: "node2", Length: len(vxlan) + 28, Segments: 1, Data: outer(4789, vxlan...)},
		{Time: at, Direction: in, Layer: inner, Peer: "node2", Length: len(udp), Segments: 1, Data: udp, Drop: "device-refused"},
		{Time: at, Direction: out, Layer: inner, Length: len(ping), Segments: 1, Data: ping, Drop: "no-route"},
		{Time: at, Direction: in, Layer: inner, Peer: "no\x1b[2J", Length: len(six), Segments: 1, Data: six},
		{Time: at, Direction: in, Layer: around, Length: 60, Segments: 1, Data: outer(8285, 0xff, 0xff), Drop: "malformed"},
		{Time: at, Direction: out, Layer: inner, Length: 3, Segments: 1, Data: []byte{0x45, 0, 0}, Drop: "malformed"},
		{Time: at, Direction: out, Layer: inner, Segments: 1, Drop: "malformed"},
	}
}

const sampleLines = `out inner node2 10.244.1.10:4000 > 10.244.2.20:80 tcp [P.] seq 7 ack 9 win 512 len 60 (46 x 1400 bytes)
out outer node2 192.0.2.1:61440 > 192.0.2.2:8285 udp len 112 | 10.244.1.10:4000 > 10.244.2.20:80 tcp [P.] seq 7 ack 9 win 512 len 60
in  outer node2 192.0.2.1:61440 > 192.0.2.2:4789 udp len 56 | 10.244.2.20:53 > 10.244.1.10:4001 udp len 6
in  inner node2 10.244.2.20:53 > 10.244.1.10:4001 udp len 6 dropped: device-refused
out inner 10.244.1.10 > 10.244.2.20 icmp EchoRequest id 3 seq 4 len 8 dropped: no-route
in  inner no�[2J [fd00::1]:1 > [fd00::2]:2 udp len 3
in  outer 192.0.2.1:61440 > 192.0.2.2:8285 udp len 2 dropped: malformed
out inner no IP packet dropped: malformed
out inner no packet dropped: malformed
`

// captures is a backend that shows packets, and then waits for the client to go; want is what it is asked for.
func captures(t *testing.T, want control.CaptureRequest, skipped uint64, packets ...control.CapturedPacket) *backend {
	return &backend{captured: func(ctx context.Context, r control.CaptureRequest, show func([]control.CapturedPacket, uint64) error) error {
		if !cmp.Equal(r, want) {
			t.Errorf("asked for %+v, want %+v", r, want)
		}
		if err := errors.Join(show(nil, 0), show(nil, skipped), show(packets, skipped)); err != nil {
			return err
		}
		<-ctx.Done()
		return nil
	}}
}

func TestCaptureLines(t *testing.T) {
	packets := sampleCapture(t)
	b := captures(t, control.CaptureRequest{Sample: 1, Snaplen: captureSnaplen}, 5, packets...)
	socket, _ := daemon(t, b)
	got := run(t, socket, "capture", "-c", "9")
	stamp := packets[0].Time.Local().Format("15:04:05.000000") + " "
	want := result{0, stamp + strings.ReplaceAll(strings.TrimSuffix(sampleLines, "\n"), "\n", "\n"+stamp) + "\n",
		"capturing on weft0 and eth0 until Ctrl-C\n9 packets captured, 5 skipped: weftd saw more than could be shown; narrow the filter, or take --sample 10\n"}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(result{})); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestCaptureRequests(t *testing.T) {
	for args, want := range map[string]control.CaptureRequest{
		"--drops":                       {Drops: true, Sample: 1, Snaplen: captureSnaplen},
		"--drops=spoofed,no-route":      {Drops: true, Reasons: []string{"spoofed", "no-route"}, Sample: 1, Snaplen: captureSnaplen},
		"--pod web --pod 10.244.1.7":    {Pods: []string{"web", "10.244.1.7"}, Sample: 1, Snaplen: captureSnaplen},
		"--layer outer --direction in":  {Layer: "outer", Direction: "in", Sample: 1, Snaplen: captureSnaplen},
		"--peer node2 --snaplen 65535":  {Node: "node2", Sample: 1, Snaplen: 65535},
		"--sample 10 --duration 10ms":   {Sample: 10, Snaplen: captureSnaplen},
		"--layer inner --snaplen 1 -c1": {Layer: "inner", Sample: 1, Snaplen: 1},
	} {
		socket, stop := daemon(t, captures(t, want, 0, sampleCapture(t)[0]))
		got := run(t, socket, strings.Fields("capture --json -c 1 "+args)...)
		if got.status != 0 || !strings.Contains(got.out, `"peer":"node2"`) && !strings.Contains(args, "10ms") {
			t.Errorf("%s: %+v", args, got)
		}
		stop()
	}
}

func TestCaptureIsRefused(t *testing.T) {
	for args, want := range map[string]string{
		"--direction up":       `--direction is "up", and can be in or out`,
		"--layer middle":       `--layer is "middle", and can be inner, outer or both`,
		"--sample 0":           "--sample is 0, and must be at least 1, which shows all",
		"--snaplen 70000":      "--snaplen is 70000, and can be 1 to 65535",
		"--duration -1s":       "--duration is -1s, and cannot be negative",
		"-w x --json":          "-w writes pcapng, and --json JSON: take one of the two",
		"host 10.244.1.7":      "weft capture takes no arguments, but got \"host\"; see `weft capture --help`",
		"--drops spoofed":      "weft capture takes no arguments, but got \"spoofed\"; see `weft capture --help`",
		"--write=- --duration": "flag needs an argument: --duration",
	} {
		if got := run(t, "/nowhere", strings.Fields("capture "+args)...); got != (result{2, "", "weft: " + want + "\n"}) {
			t.Errorf("%s: %+v", args, got)
		}
	}
	c := &cli{out: io.Discard, errOut: &bytes.Buffer{}, terminal: true, now: time.Now}
	if status := c.run(t.Context(), []string{"capture", "-w", "-"}); status != 2 {
		t.Errorf("binary on a terminal: status %d", status)
	}

	// A file that is there survives a capture that cannot begin.
	kept := filepath.Join(t.TempDir(), "kept")
	if err := os.WriteFile(kept, []byte("kept"), 0o600); err != nil {
		t.Fatal(err)
	}
	socket, _ := daemon(t, &backend{captured: func(context.Context, control.CaptureRequest, func([]control.CapturedPacket, uint64) error) error {
		return errors.New("no pod of this node is called web")
	}})
	got := run(t, socket, "capture", "-w", kept, "--pod", "web")
	if text, _ := os.ReadFile(kept); got != (result{1, "", "weft: weftd: no pod of this node is called web\n"}) || string(text) != "kept" {
		t.Errorf("%+v, and the file has %q", got, text)
	}
}

// The file holds every packet, as other programs read it.
func TestCaptureFile(t *testing.T) {
	packets := sampleCapture(t)
	socket, _ := daemon(t, captures(t, control.CaptureRequest{Sample: 1, Snaplen: captureSnaplen}, 0, packets...))
	file := filepath.Join(t.TempDir(), "weft.pcapng")
	if got := run(t, socket, "capture", "-w", file, "-c", "9"); got.status != 0 || got.out != "" {
		t.Fatalf("%+v", got)
	}
	if info, err := os.Stat(file); err != nil || info.Mode() != 0o600 {
		t.Errorf("the file's mode: %v, %v", info, err)
	}
	written, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	piped := run(t, socket, "capture", "-w", "-", "-c", "9")
	if piped.out != string(written) {
		t.Error("what is piped is not what is written to a file")
	}
	r, err := pcapgo.NewNgReader(bytes.NewReader(written), pcapgo.DefaultNgReaderOptions)
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]int{}
	for i, want := range packets {
		data, info, err := r.ReadPacketData()
		if err != nil {
			t.Fatalf("packet %d: %v", i, err)
		}
		device, err := r.Interface(info.InterfaceIndex)
		if err != nil {
			t.Fatal(err)
		}
		names[device.Name]++
		cooked, ok := gopacket.NewPacket(data, layers.LayerTypeLinuxSLL, gopacket.Default).LinkLayer().(*layers.LinuxSLL)
		if !ok || (cooked.PacketType == layers.LinuxSLLPacketTypeOutgoing) != (want.Direction == control.CaptureOut) || cooked.AddrLen != 0 {
			t.Errorf("packet %d has the link header %+v", i, cooked)
		}
		if !bytes.Equal(data[cookedLen:], want.Data) || !info.Timestamp.Equal(want.Time) || info.Length != cookedLen+max(want.Length, len(want.Data)) || device.LinkType != layers.LinkTypeLinuxSLL || device.SnapLength != cookedLen+captureSnaplen {
			t.Errorf("packet %d is read as %+v on %+v: %x", i, info, device, data)
		}
	}
	if _, _, err := r.ReadPacketData(); !errors.Is(err, io.EOF) {
		t.Errorf("behind the packets: %v", err)
	}
	if want := map[string]int{"weft0": 2, "eth0": 2, "weft0 drop:device-refused": 1, "weft0 drop:no-route": 1, "eth0 drop:malformed": 1, "weft0 drop:malformed": 2}; !cmp.Equal(names, want) {
		t.Errorf("interfaces: %v", names)
	}
	for i, want := range []string{"out to node2, 46 x 1400 bytes, checksum left to the device", "out to node2", "in from node2", "in from node2, dropped: device-refused", "out, dropped: no-route"} {
		if !bytes.Contains(written, []byte(want)) || comment(&packets[i]) != want {
			t.Errorf("comment %d is %q, want %q", i, comment(&packets[i]), want)
		}
	}
	readsLikeOthers(t, file)
}

// readsLikeOthers has the programs read it that people will.
func readsLikeOthers(t *testing.T, file string) {
	t.Helper()
	out, err := exec.Command("tcpdump", "-nr", file).CombinedOutput()
	if err != nil {
		t.Fatalf("tcpdump does not read it: %v: %s", err, out)
	}
	for _, want := range []string{"IP 10.244.1.10.4000 > 10.244.2.20.80: Flags [P.]", "IP 192.0.2.1.61440 > 192.0.2.2.4789: VXLAN", "IP6 fd00::1.1 > fd00::2.2: UDP"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("tcpdump shows no %q:\n%s", want, out)
		}
	}
	tshark, err := exec.LookPath("tshark")
	if err != nil {
		t.Log("without tshark: apt-get install tshark")
		return
	}
	out, err = exec.Command(tshark, "-r", file, "-T", "fields", "-e", "frame.interface_name", "-e", "frame.packet_flags_direction", "-e", "frame.comment").Output()
	if err != nil {
		t.Fatalf("tshark does not read it: %v", err)
	}
	for _, want := range []string{"weft0\t0x00000002\tout to node2, 46 x 1400 bytes, checksum left to the device", "weft0 drop:no-route\t0x00000002\tout, dropped: no-route"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("tshark shows no %q:\n%s", want, out)
		}
	}
}

// FuzzDescribePacket: whatever bytes there are become one line.
func FuzzDescribePacket(f *testing.F) {
	for _, c := range sampleCapture(f) {
		f.Add(c.Data, c.Layer == control.CaptureOuter)
	}
	f.Fuzz(func(t *testing.T, data []byte, outer bool) {
		text := describePacket(data, outer)
		if text == "" || printable(text) != text {
			t.Errorf("%x becomes %q", data, text)
		}
	})
}
