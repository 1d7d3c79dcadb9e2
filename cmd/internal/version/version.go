// Package version knows which build of weft this is.
package version

import "runtime/debug"

// stamp is set by the linker (-ldflags "-X github.com/weft-net/weft/cmd/internal/version.stamp=v1.2.3").
// Immutable: no code sets it.
var stamp string

// String returns the version the binary was stamped with. Without a stamp it falls back on what the Go tool
// recorded: the module's version, or "dev" with the commit, and "+dirty" where the tree had changes.
func String() string {
	if stamp != "" {
		return stamp
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "dev"
	}
	return fromBuildInfo(info)
}

// shortCommit is as many digits of a commit as git shows for a tree of this size, and some more.
const shortCommit = 12

func fromBuildInfo(info *debug.BuildInfo) string {
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	settings := make(map[string]string, len(info.Settings))
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	commit := settings["vcs.revision"]
	if commit == "" {
		return "dev"
	}
	v := "dev-" + commit[:min(len(commit), shortCommit)]
	if settings["vcs.modified"] == "true" {
		v += "+dirty"
	}
	return v
}
