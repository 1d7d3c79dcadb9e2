package config

import (
	"bytes"
	"fmt"
	"strings"
)

// commentWidth keeps the default file readable in a terminal of 80 columns.
const commentWidth = 78

// DefaultFile returns a configuration file that names and explains every key. All keys are commented out, at
// their defaults where they have one, so that a setting is there only where somebody meant it.
func DefaultFile() []byte {
	var b bytes.Buffer
	b.WriteString("# Configuration of weftd. Remove the # before a key to set it.\n" +
		"# A flag (--pod-cidr) or a variable of the environment (WEFT_POD_CIDR) overrides\n" +
		"# what stands here.\n" +
		"# `weftd config check` tells what is wrong before weftd is restarted.\n")
	for _, line := range wrap("`weft reload` applies a change of "+strings.Join(liveKeys(), ", ")+"; any other key takes a restart.", commentWidth) {
		fmt.Fprintf(&b, "# %s\n", line)
	}
	for _, d := range definitions("") {
		b.WriteByte('\n')
		for _, line := range wrap(strings.ToUpper(d.help[:1])+d.help[1:]+".", commentWidth) {
			fmt.Fprintf(&b, "# %s\n", line)
		}
		text := d.def
		if text == "" {
			text = d.example
		}
		fmt.Fprintf(&b, "#%s: %s\n", d.name, text)
	}
	return b.Bytes()
}

// liveKeys are the names of the keys that take effect while weftd runs.
func liveKeys() (names []string) {
	for _, d := range definitions("") {
		if d.live {
			names = append(names, d.name)
		}
	}
	return names
}

// wrap breaks text at spaces into lines of at most width bytes, where its words allow.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(text) {
		switch {
		case line == "":
			line = word
		case len(line)+1+len(word) > width:
			lines = append(lines, line)
			line = word
		default:
			line += " " + word
		}
	}
	return append(lines, line)
}
