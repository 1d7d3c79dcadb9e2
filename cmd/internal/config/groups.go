package config

import (
	"fmt"
	"slices"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v4"
)

// A group is what a key has several of, each with keys of its own. Its one form for all sources is key=value with spaces
// between, and the values of one of its keys have commas between.

// splitGroups takes a text with commas between groups apart. A piece that does not start with key= continues the one
// before it, for a key's values have commas of their own. An empty text has no groups.
func splitGroups(text string) (groups []string) {
	if strings.TrimSpace(text) == "" {
		return nil
	}
	for piece := range strings.SplitSeq(text, ",") {
		words := strings.Fields(piece)
		if len(groups) > 0 && (len(words) == 0 || !strings.Contains(words[0], "=")) {
			groups[len(groups)-1] += "," + strings.Join(words, " ")
			continue
		}
		groups = append(groups, strings.Join(words, " "))
	}
	return groups
}

// groupText returns what a mapping in YAML is as one text.
func groupText(group *yaml.Node) (string, error) {
	var words []string
	for i := 0; i+1 < len(group.Content); i += 2 {
		key, val := group.Content[i], resolve(group.Content[i+1])
		if key.Kind != yaml.ScalarNode {
			return "", fmt.Errorf("a key must be a single word, not %s", kindOf(key))
		}
		items := []*yaml.Node{val}
		if val.Kind == yaml.SequenceNode {
			items = val.Content
		}
		var values []string
		for _, item := range items {
			item = resolve(item)
			switch {
			case item.Kind == yaml.SequenceNode || item.Kind == yaml.MappingNode:
				return "", fmt.Errorf("%s wants a single value, or a list of such, not %s", key.Value, kindOf(item))
			case isNull(item):
				return "", fmt.Errorf("%s has no value; give one, or remove the line", key.Value)
			}
			values = append(values, item.Value)
		}
		word := key.Value + "=" + strings.Join(values, ",")
		if strings.ContainsFunc(word, unicode.IsSpace) || slices.ContainsFunc(values, func(v string) bool { return strings.Contains(v, "=") }) {
			return "", fmt.Errorf("%s: %q has a space or a = in it, as no value here may", key.Value, strings.Join(values, ","))
		}
		words = append(words, word)
	}
	return strings.Join(words, " "), nil
}
