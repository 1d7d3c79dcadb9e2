package encap

import (
	"strings"
	"testing"
)

func TestParseMAC(t *testing.T) {
	m, err := ParseMAC("02:00:00:00:AB:01")
	if err != nil || m != (MAC{2, 0, 0, 0, 0xab, 1}) || m.String() != "02:00:00:00:ab:01" {
		t.Errorf("ParseMAC = %v %v", m, err)
	}
	for _, s := range []string{"", "02:00:00:00:00", "02:00:00:00:00:00:00:01", "00:00:00:00:00:00", "01:00:5e:00:00:01", "ff:ff:ff:ff:ff:ff", "x"} {
		if m, err := ParseMAC(s); m != (MAC{}) || err == nil || !strings.Contains(err.Error(), `"`+s+`"`) {
			t.Errorf("ParseMAC(%q) = %v %v", s, m, err)
		}
	}
}
