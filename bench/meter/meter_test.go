package meter

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func recorded(t testing.TB, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func near(got, want float64) bool { return math.Abs(got-want) <= 1e-6*math.Abs(want) }

func TestParseTCP(t *testing.T) {
	for name, want := range map[string]TCP{
		"iperf3-tcp.json":   {Gbps: 20.43848524314452, Retransmits: 14, Bytes: 3397386240 + 5109186560},
		"iperf3-bidir.json": {Gbps: 11.03845119632471 + 11.500300059877514, Retransmits: 28 + 24, Bytes: 1460142080 + 1294794381 + 1470627840 + 1272709332 + 1287127040 + 1601044586},
	} {
		got, err := ParseTCP(recorded(t, name))
		if err != nil || !near(got.Gbps, want.Gbps) || got.Retransmits != want.Retransmits || !near(got.Bytes, want.Bytes) {
			t.Errorf("%s: %+v, %v, want %+v", name, got, err, want)
		}
	}
}

func TestParseUDP(t *testing.T) {
	got, err := ParseUDP(recorded(t, "iperf3-udp.json"))
	if err != nil || !near(got.Offered, 352459/2.000014) || !near(got.Received, (352459-1385)/2.000352) || !near(got.Loss, 1385.0/352459) {
		t.Errorf("ParseUDP = %+v, %v", got, err)
	}
	// The server never heard of the last 400 of 1000 packets.
	const tail = `{"end": {"sum_sent": {"packets": 1000, "seconds": 1}, "sum_received": {"packets": 600, "lost_packets": 100, "seconds": 1}}}`
	if got, err := ParseUDP(tail); err != nil || got != (UDP{Offered: 1000, Received: 500, Loss: 0.5}) {
		t.Errorf("ParseUDP with a lost tail = %+v, %v", got, err)
	}
}

func TestIperfFailure(t *testing.T) {
	refused := recorded(t, "iperf3-refused.json")
	const said = "unable to connect to server: Connection refused"
	if got := IperfError(refused); got != said {
		t.Errorf("IperfError = %q", got)
	}
	if got := IperfError("Killed"); got != "" {
		t.Errorf("IperfError of no JSON = %q", got)
	}
	if _, err := ParseTCP(refused); err == nil || !strings.Contains(err.Error(), said) {
		t.Errorf("ParseTCP = %v", err)
	}
	for _, bad := range []string{"", "{}", "[]", refused[:40], `{"end": {"sum_sent": {"packets": 9, "seconds": 1}}}`} {
		if _, err := ParseTCP(bad); err == nil {
			t.Errorf("ParseTCP(%q) gave no error", bad)
		}
		if _, err := ParseUDP(bad); err == nil {
			t.Errorf("ParseUDP(%q) gave no error", bad)
		}
	}
}

func TestParseSockperf(t *testing.T) {
	out := recorded(t, "sockperf-pp.txt")
	if got, err := ParseSockperf(out); err != nil || got != (Latency{P50: 41.672, P99: 61.677, P999: 99.428}) {
		t.Errorf("ParseSockperf = %+v, %v", got, err)
	}
	for _, bad := range []string{"", strings.ReplaceAll(out, "percentile 99.900", "percentile 99.9"), strings.ReplaceAll(out, "41.672", "nothing")} {
		if got, err := ParseSockperf(bad); err == nil {
			t.Errorf("ParseSockperf of a damaged output = %+v", got)
		}
	}
}

func TestParseAB(t *testing.T) {
	out := recorded(t, "ab.txt")
	if got, err := ParseAB(out); err != nil || got != 3904.97 {
		t.Errorf("ParseAB = %v, %v", got, err)
	}
	for name, bad := range map[string]string{
		"empty":     "",
		"failed":    strings.Replace(out, "Failed requests:        0", "Failed requests:        7", 1),
		"not found": out + "\nNon-2xx responses:      3905\n",
		"none":      strings.Replace(out, "3904.97 [#", "0.00 [#", 1),
	} {
		if got, err := ParseAB(bad); err == nil {
			t.Errorf("%s: ParseAB = %v without error", name, got)
		}
	}
}

func TestProcessorTime(t *testing.T) {
	// The name of a program may look like the rest of the line.
	const process = "7 (a) S 1 2) R 22996 22996 19829 0 -1 4194304 121 0 0 0 250 50 0 0 20 0 1 0 1136061 0\n"
	if got, err := parseProcessStat(process); err != nil || got != (Processor{User: 2.5, System: 0.5}) {
		t.Errorf("parseProcessStat = %+v, %v", got, err)
	}
	const machine = "cpu  100 20 300 4000 5000 6 70 80000 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n"
	if got, err := parseMachineStat(machine); err != nil || !near(got.User, 1.2) || !near(got.System, 3.76) {
		t.Errorf("parseMachineStat = %+v, %v", got, err)
	}
	const status = "Name:\tcat\nVmHWM:\t    9 kB\nVmRSS:\t    1536 kB\n"
	if got, err := parseStatus(status, "VmRSS:"); err != nil || got != 1536 {
		t.Errorf("parseStatus = %v, %v", got, err)
	}
	for _, bad := range []string{"", "cpu 1", "7 (a) R 1", "VmRSS: 5 MB", "cpu a b c d e f g h"} {
		_, processErr := parseProcessStat(bad)
		_, machineErr := parseMachineStat(bad)
		_, statusErr := parseStatus(bad, "VmRSS:")
		if processErr == nil || machineErr == nil || statusErr == nil {
			t.Errorf("%q gave no error: %v, %v, %v", bad, processErr, machineErr, statusErr)
		}
	}
}

// What the kernel writes today is what is read.
func TestOwnProcessorTime(t *testing.T) {
	before, err := OfMachine()
	if err != nil {
		t.Fatal(err)
	}
	// Until the clock of /proc, 10 ms coarse, has moved.
	var own Processor
	for own.User+own.System == 0 {
		if own, err = OfProcess(os.Getpid()); err != nil {
			t.Fatal(err)
		}
	}
	after, err := OfMachine()
	if spent := after.Sub(before); err != nil || spent.User < 0 || spent.System < 0 {
		t.Errorf("the machine spent %+v, %v", spent, err)
	}
	if bytes, err := Resident(os.Getpid()); err != nil || bytes < 1<<20 {
		t.Errorf("Resident = %d, %v", bytes, err)
	}
	if _, err := OfProcess(1 << 30); err == nil {
		t.Error("a process that does not exist gave no error")
	}
}

func FuzzParsers(f *testing.F) {
	for _, name := range []string{"iperf3-tcp.json", "iperf3-bidir.json", "iperf3-udp.json", "iperf3-refused.json", "sockperf-pp.txt", "ab.txt"} {
		f.Add(recorded(f, name))
	}
	f.Add("7 (a) R 22996 22996 19829 0 -1 4194304 121 0 0 0 250 50 0 0 20 0")
	f.Add("cpu  100 20 300 4000 5000 6 70 80000 0 0\n")
	f.Add("VmRSS:\t    1536 kB\n")
	f.Fuzz(func(t *testing.T, out string) {
		finite := func(what string, err error, values ...float64) {
			for _, v := range values {
				if err == nil && (v < 0 || math.IsNaN(v) || math.IsInf(v, 0)) {
					t.Errorf("%s of %q holds %v", what, out, v)
				}
			}
		}
		tcp, err := ParseTCP(out)
		finite("ParseTCP", err, tcp.Gbps, tcp.Bytes)
		udp, err := ParseUDP(out)
		finite("ParseUDP", err, udp.Offered, udp.Received, udp.Loss)
		latency, err := ParseSockperf(out)
		finite("ParseSockperf", err, latency.P50, latency.P99, latency.P999)
		rate, err := ParseAB(out)
		finite("ParseAB", err, rate)
		process, err := parseProcessStat(out)
		finite("parseProcessStat", err, process.User, process.System)
		machine, err := parseMachineStat(out)
		finite("parseMachineStat", err, machine.User, machine.System)
		kib, err := parseStatus(out, "VmRSS:")
		finite("parseStatus", err, float64(kib))
	})
}
