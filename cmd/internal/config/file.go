package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

// maxFile bounds what is read. A configuration with a join list of thousands stays far below.
const maxFile = 1 << 20

// maxProblems bounds what is reported of a file that is the configuration of something else.
const maxProblems = 30

// loadFile applies the file, if there is one. An absent file is an error only where the user named it.
func (l *Loader) loadFile(g *gathering) error {
	text, err := readFile(l.path)
	switch named := l.config != nil && l.config.Changed; {
	case errors.Is(err, fs.ErrNotExist) && !named:
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("read configuration %s: no such file; `weftd config default` prints one to start from", l.path)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("read configuration %s: permission denied; run weftd as root", l.path)
	case err != nil:
		return fmt.Errorf("read configuration: %w", err)
	}
	g.yaml(l.path, text)
	return nil
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(text) > maxFile {
		err = fmt.Errorf("%s is larger than %d bytes: is it the right file?", path, maxFile)
	}
	return text, err
}

// yaml applies the text of a file: nothing, or one mapping of keys to values.
func (g *gathering) yaml(path string, text []byte) {
	root, err := parseYAML(path, text)
	if err != nil {
		g.problems = append(g.problems, err)
		g.broken = true
		return
	}
	if root == nil {
		return
	}
	byName := make(map[string]definition, len(g.defs))
	names := make([]string, len(g.defs))
	for i, d := range g.defs {
		names[i] = d.name
		byName[d.name] = d
	}
	first := map[string]int{}
	for i := 0; i+1 < len(root.Content); i += 2 {
		key, val := root.Content[i], resolve(root.Content[i+1])
		at := origin{file: path, line: key.Line}
		if len(g.problems) >= maxProblems {
			g.problems = append(g.problems, fmt.Errorf("%s: so many problems that the rest is not shown; is this the right file?", at))
			return
		}
		d, known := byName[key.Value]
		switch line, twice := first[key.Value]; {
		case key.Kind != yaml.ScalarNode:
			g.problems = append(g.problems, fmt.Errorf("%s: a key must be a single word, not %s", at, kindOf(key)))
		case !known:
			g.problems = append(g.problems, fmt.Errorf("%s: unknown key %q%s", at, key.Value, didYouMean(key.Value, names, "`weftd config default` lists them all")))
		case twice:
			g.problem(d.name, at, "is set a second time; line %d sets it already", line)
		case d.list:
			g.sequence(d, path, at, val)
		default:
			g.scalar(d, at, val)
		}
		if _, twice := first[key.Value]; !twice {
			first[key.Value] = key.Line
		}
	}
}

// scalar applies a single value. Its text goes to the parser as it is written, so that YAML's own idea of
// types (a name `no`, a number with leading zeros) does not come between.
func (g *gathering) scalar(d definition, at origin, val *yaml.Node) {
	switch {
	case val.Kind != yaml.ScalarNode:
		g.problem(d.name, at, "wants one value, not %s", kindOf(val))
	case isNull(val):
		g.problem(d.name, at, "has no value; give one, or remove the line to take the default")
	default:
		g.set(d, at, val.Value)
	}
}

// sequence applies a list, or the same as one text. A key whose items are all commented out is an empty one.
func (g *gathering) sequence(d definition, path string, at origin, val *yaml.Node) {
	switch {
	case isNull(val):
		g.set(d, at, "")
		return
	case val.Kind == yaml.ScalarNode:
		g.set(d, at, val.Value)
		return
	case val.Kind != yaml.SequenceNode && d.groups:
		g.problem(d.name, at, "wants a list; begin each of its items with -, or write %s: %s", d.name, d.example)
		return
	case val.Kind != yaml.SequenceNode:
		g.problem(d.name, at, "wants a list; write %s: [A, B]", d.name)
		return
	}
	var texts []string
	for _, item := range val.Content {
		at := origin{file: path, line: item.Line}
		text, err := d.itemText(resolve(item))
		if err == nil {
			// Each is parsed alone first, so that a problem is reported with its own line.
			err = d.bind(new(Config)).Set(text)
		}
		if err != nil {
			g.problem(d.name, at, "%w", err)
			continue
		}
		texts = append(texts, text)
	}
	if len(texts) == len(val.Content) {
		g.set(d, at, strings.Join(texts, ","))
	}
}

// itemText returns what one item of a list is as a text.
func (d definition) itemText(item *yaml.Node) (string, error) {
	switch {
	case item.Kind == yaml.MappingNode && d.groups:
		return groupText(item)
	case item.Kind != yaml.ScalarNode || isNull(item):
		return "", fmt.Errorf("wants a list of single values, not of %s", kindOf(item))
	}
	return item.Value, nil
}

// parseYAML returns the mapping in text, or nil if the text holds nothing but comments.
func parseYAML(path string, text []byte) (*yaml.Node, error) {
	root, err := parseDocument(path, text)
	if err == nil && root != nil && root.Kind != yaml.MappingNode {
		err = fmt.Errorf("%s:%d: expected lines of `key: value`, found %s", path, root.Line, kindOf(root))
	}
	if err != nil {
		return nil, err
	}
	return root, nil
}

// unprintableLine returns the number of the first line that holds what YAML does not allow, or 0. The YAML
// reader refuses the same, but without saying where.
func unprintableLine(text []byte) int {
	line := 1
	for len(text) > 0 {
		r, n := utf8.DecodeRune(text)
		if r == utf8.RuneError && n == 1 || unicode.IsControl(r) && !strings.ContainsRune("\t\n\r\u0085", r) {
			return line
		}
		if r == '\n' {
			line++
		}
		text = text[n:]
	}
	return 0
}

// syntaxError turns an error of the YAML reader into one line with the place in front.
func syntaxError(path string, text []byte, err error) error {
	var load *yaml.LoadError
	if !errors.As(err, &load) {
		return fmt.Errorf("%s: not valid YAML: %w", path, err)
	}
	at := origin{file: path, line: load.Mark.Line}
	if strings.Contains(load.Message, "tab character") || tabIndents(text, load.Mark.Line) {
		return fmt.Errorf("%s: a tab where YAML wants spaces; replace it", at)
	}
	if load.ContextMsg != "" && load.ContextMark.Line != 0 && load.ContextMark.Line != load.Mark.Line {
		return fmt.Errorf("%s: not valid YAML: %s, %s that starts on line %d", at, load.Message, load.ContextMsg, load.ContextMark.Line)
	}
	return fmt.Errorf("%s: not valid YAML: %s", at, load.Message)
}

// tabIndents reports whether the numbered line starts with white space that has a tab in it.
func tabIndents(text []byte, number int) bool {
	for line := range bytes.Lines(text) {
		if number--; number == 0 {
			indent := line[:len(line)-len(bytes.TrimLeft(line, " \t"))]
			return bytes.ContainsRune(indent, '\t')
		}
	}
	return false
}

// resolve follows an alias (*name) to the value it stands for.
func resolve(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode && n.Alias != nil {
		return n.Alias
	}
	return n
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

// kindOf describes a node to the user.
func kindOf(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.Kind == yaml.MappingNode:
		return "a group of keys"
	case isNull(n):
		return "nothing"
	}
	return "a single value"
}
