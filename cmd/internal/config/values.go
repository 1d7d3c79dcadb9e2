package config

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/weft-net/weft/dataplane/offload"
)

// value is the pflag.Value of a field of type T. What a single value must satisfy is checked by its parser,
// so that a wrong value is refused even where a later source overrides it; what several values must satisfy
// together is in validate.go.
type value[T any] struct {
	field  *T
	kind   string
	parse  func(string) (T, error)
	format func(T) string
}

func bind[T any](field *T, kind string, parse func(string) (T, error), format func(T) string) *value[T] {
	return &value[T]{field, kind, parse, format}
}

func (v *value[T]) String() string { return v.format(*v.field) }
func (v *value[T]) Type() string   { return v.kind }

func (v *value[T]) Set(s string) error {
	x, err := v.parse(s)
	if err != nil {
		return err
	}
	*v.field = x
	return nil
}

func same(s string) string            { return s }
func formatInt(n int) string          { return strconv.Itoa(n) }
func formatPort(p uint16) string      { return strconv.Itoa(int(p)) }
func formatVNI(n uint32) string       { return strconv.Itoa(int(n)) }
func formatBool(b bool) string        { return strconv.FormatBool(b) }
func formatLevel(l slog.Level) string { return strings.ToLower(l.String()) }

func formatAddr(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

func formatJoin(join []HostPort) string { return joined(join, ",") }

// maxNodeName is that of a DNS label (RFC 1035 section 2.3.4), so that a name fits where hostnames do.
const maxNodeName = 63

func parseNodeName(s string) (string, error) {
	switch {
	case strings.TrimSpace(s) == "":
		return "", errors.New("is empty; give this node a name")
	case len(s) > maxNodeName:
		return "", fmt.Errorf("%q has %d bytes; a name has at most %d", s, len(s), maxNodeName)
	case !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }):
		return "", fmt.Errorf("%q has characters that cannot be printed", s)
	case strings.TrimSpace(s) != s:
		return "", fmt.Errorf("%q starts or ends with a space", s)
	}
	return s, nil
}

func parsePort(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%q is not a port; give a number from 1 to 65535", s)
	}
	return uint16(n), nil
}

func parseBool(s string) (bool, error) {
	b, err := strconv.ParseBool(s)
	if err != nil {
		return false, fmt.Errorf("%q is neither true nor false", s)
	}
	return b, nil
}

// maxLinkName is IFNAMSIZ minus the closing zero (linux/if.h).
const maxLinkName = 15

// parseLinkName follows dev_valid_name in the kernel's net/core/dev.c.
func parseLinkName(s string) (string, error) {
	switch {
	case s == "":
		return "", errors.New("is empty; give the name of an interface")
	case len(s) > maxLinkName:
		return "", fmt.Errorf("%q has %d bytes; the name of an interface has at most %d", s, len(s), maxLinkName)
	case s == "." || s == ".." || strings.ContainsFunc(s, badInLinkName):
		return "", fmt.Errorf("%q cannot name an interface: no spaces, slashes, colons or unprintable characters", s)
	}
	return s, nil
}

func badInLinkName(r rune) bool {
	return r == '/' || r == ':' || r == '%' || unicode.IsSpace(r) || !unicode.IsPrint(r)
}

// A link of IPv6 must take packets of 1280 bytes (RFC 8200 section 5); 65,507 is the largest UDP payload over
// IPv4: 65,535 minus the IP and UDP headers.
const (
	minMTU = 1280
	maxMTU = 65507
)

func parseMTU(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n != 0 && (n < minMTU || n > maxMTU) {
		return 0, fmt.Errorf("%q is not an MTU; give 0 or a number from %d to %d", s, minMTU, maxMTU)
	}
	return n, nil
}

// maxVNI is the largest number of 24 bits (RFC 7348 section 5).
const maxVNI = 1<<24 - 1

func parseVNI(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || n > maxVNI {
		return 0, fmt.Errorf("%q is not a VNI; give a number from 0 to %d", s, maxVNI)
	}
	return uint32(n), nil
}

func parseMode(s string) (string, error) {
	switch s {
	case ModeAuto, ModeDirect, ModeUDP, ModeVXLAN:
		return s, nil
	}
	return "", fmt.Errorf("%q is neither auto, direct, udp nor vxlan", s)
}

func parseTunnel(s string) (string, error) {
	if s != TunnelUDP && s != TunnelVXLAN {
		return "", fmt.Errorf("%q is neither udp nor vxlan", s)
	}
	return s, nil
}

func parseFirewall(s string) (string, error) {
	if s != FirewallCheck && s != FirewallManage {
		return "", fmt.Errorf("%q is neither check nor manage", s)
	}
	return s, nil
}

func parseWiring(s string) (string, error) {
	if s != WiringRouted && s != WiringBridge {
		return "", fmt.Errorf("%q is neither routed nor bridge", s)
	}
	return s, nil
}

func parseOffload(s string) (string, error) {
	if s != OffloadAuto && s != OffloadOn && s != OffloadOff {
		return "", fmt.Errorf("%q is neither auto, on nor off", s)
	}
	return s, nil
}

func parseFeatures(s string) (set offload.Set, err error) {
	if strings.TrimSpace(s) == "" {
		return 0, nil
	}
	for name := range strings.SplitSeq(s, ",") {
		f, err := offload.Parse(strings.TrimSpace(name))
		if err != nil {
			return 0, err
		}
		set |= offload.Of(f)
	}
	return set, nil
}

func formatFeatures(s offload.Set) string { return strings.ReplaceAll(s.String(), " ", ",") }

// maxWorkers is what there may be of TUN queues (MAX_TAP_QUEUES, drivers/net/tun.c), two to a worker.
const maxWorkers = 128

func parseWorkers(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 || n > maxWorkers {
		return 0, fmt.Errorf("%q is not a number of workers; give 0 or a number up to %d", s, maxWorkers)
	}
	return n, nil
}

const maxGrace = time.Hour

func parseGrace(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	switch {
	case err != nil:
		if _, err := strconv.ParseUint(s, 10, 32); err == nil {
			return 0, fmt.Errorf("%q has no unit; write %ss", s, s)
		}
		return 0, fmt.Errorf("%q is not a duration; write for instance 5s or 1m30s", s)
	case d < 0 || d > maxGrace:
		return 0, fmt.Errorf("%s is out of range; give 0s to 1h", s)
	}
	return d, nil
}

// never is the value of forgetAfter by which no node is forgotten.
const never = "never"

// minForget is far above the time that a reboot takes, or a repair.
const minForget = time.Hour

func parseForgetAfter(s string) (time.Duration, error) {
	if s == never {
		return 0, nil
	}
	d, err := time.ParseDuration(s)
	switch {
	case err != nil:
		return 0, fmt.Errorf("%q is not a duration; write for instance 168h, or never", s)
	case d != 0 && d < minForget:
		return 0, fmt.Errorf("%s is too short: a node that is being repaired would lose its block; give at least %s, or never", s, formatForgetAfter(minForget))
	}
	return d, nil
}

// formatForgetAfter leaves out the units that are zero at the end: 168h.
func formatForgetAfter(d time.Duration) string {
	if d == 0 {
		return never
	}
	s := d.String()
	if rest, ok := strings.CutSuffix(s, "m0s"); ok {
		s = rest + "m"
	}
	if rest, ok := strings.CutSuffix(s, "h0m"); ok {
		s = rest + "h"
	}
	return s
}

func parseLevel(s string) (slog.Level, error) {
	for _, l := range []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError} {
		if s == formatLevel(l) {
			return l, nil
		}
	}
	return 0, fmt.Errorf("%q is not a log level; give debug, info, warn or error", s)
}

func parseLogFormat(s string) (string, error) {
	if s != "text" && s != "json" {
		return "", fmt.Errorf("%q is not a log format; give text or json", s)
	}
	return s, nil
}

func parsePath(s string) (string, error) {
	switch {
	case s == "":
		return "", errors.New("is empty; give a path")
	case strings.ContainsRune(s, 0):
		return "", fmt.Errorf("%q has a zero byte, which no path can", s)
	}
	return filepath.Clean(s), nil
}

// maxSocketPath is sizeof(sun_path) minus the closing zero (linux/un.h).
const maxSocketPath = 107

func parseSocket(s string) (string, error) {
	path, err := parsePath(s)
	if err == nil && len(path) > maxSocketPath {
		return "", fmt.Errorf("%q has %d bytes; the path of a Unix socket has at most %d", path, len(path), maxSocketPath)
	}
	return path, err
}
