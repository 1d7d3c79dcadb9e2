package version

import (
	"runtime/debug"
	"testing"
)

func TestFromBuildInfo(t *testing.T) {
	vcs := func(revision, modified string) []debug.BuildSetting {
		return []debug.BuildSetting{{Key: "vcs.revision", Value: revision}, {Key: "vcs.modified", Value: modified}}
	}
	for _, test := range []struct {
		module   string
		settings []debug.BuildSetting
		want     string
	}{
		{"", nil, "dev"},
		{"(devel)", vcs("0123456789abcdef", "false"), "dev-0123456789ab"},
		{"(devel)", vcs("0123456789abcdef", "true"), "dev-0123456789ab+dirty"},
		{"(devel)", vcs("0123", "false"), "dev-0123"},
		{"v1.2.3", vcs("0123456789abcdef", "false"), "v1.2.3"},
	} {
		info := &debug.BuildInfo{Main: debug.Module{Version: test.module}, Settings: test.settings}
		if got := fromBuildInfo(info); got != test.want {
			t.Errorf("%+v: got %s, want %s", test, got, test.want)
		}
	}
}
