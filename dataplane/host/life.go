package host

import (
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// life is one run of the kernel and one network namespace, in which parameters keep their values.
type life struct {
	Namespace string    `json:"namespace"`
	Boot      string    `json:"boot"`   // the kernel's ID of it
	Booted    time.Time `json:"booted"` // by the clock, which may be set since
}

// A restart takes longer.
const bootedSlack = time.Second

func currentLife() (life, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return life{}, err
	}
	namespace, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		return life{}, err
	}
	var up unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &up); err != nil {
		return life{}, fmt.Errorf("clock_gettime CLOCK_BOOTTIME: %w", err)
	}
	return life{namespace, strings.TrimSpace(string(boot)), time.Now().Add(-time.Duration(up.Nano())).Round(0).UTC()}, nil
}

// same takes either sign of one boot. In a container of systemd-nspawn or LXC, a file of the container's own lies over boot_id, and
// not in the /proc of a unit with ProtectProc=, so that weftd and `weft uninstall` see two. The clock may be set.
func (l life) same(other life) bool {
	return l.Namespace == other.Namespace && (l.Boot == other.Boot || l.Booted.Sub(other.Booted).Abs() < bootedSlack)
}
