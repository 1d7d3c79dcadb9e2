package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"go.yaml.in/yaml/v4"
)

// maxFilePeers is how many peers StaticPeersFile may have.
const maxFilePeers = 1000

// ParseStaticPeersFile reads the text of StaticPeersFile, which has the form that the list of staticPeers has in the
// configuration file, and keeps the same rules. No text is an empty list. The error joins one for each problem, each a
// single line that begins with the file and the line in it. It may be called concurrently.
func (c *Config) ParseStaticPeersFile(text []byte) ([]StaticPeer, error) {
	items, err := parsePeerList(c.StaticPeersFile, text)
	if err != nil {
		return nil, err
	}
	var peers []StaticPeer
	var problems []error
	for _, item := range items {
		at := origin{file: c.StaticPeersFile, line: item.Line}
		if len(problems) >= maxProblems {
			problems = append(problems, fmt.Errorf("%s: so many problems that the rest is not shown; is this the right file?", at))
			break
		}
		more, err := c.parseItem(item, at)
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", at, err))
			continue
		}
		if len(peers)+len(more) > maxFilePeers {
			problems = append(problems, fmt.Errorf("%s: has more than %d peers; let some of them run weft", at, maxFilePeers))
			break
		}
		for _, p := range more {
			if err := c.checkStaticPeer(&p, peers, true); err != nil {
				problems = append(problems, fmt.Errorf("%s: %s: %w", at, p.Name, err))
			}
			peers = append(peers, p)
		}
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	return peers, nil
}

// parseItem reads one item of the list: usually one peer.
func (c *Config) parseItem(item *yaml.Node, at origin) ([]StaticPeer, error) {
	if item = resolve(item); item.Kind != yaml.ScalarNode || isNull(item) {
		return nil, fmt.Errorf("wants a list of single values, not of %s; write for instance - %s", kindOf(item), staticExample)
	}
	peers, err := parseStaticPeers(item.Value)
	for i := range peers {
		peers[i].complete(c)
		peers[i].Source = at.String()
	}
	return peers, err
}

// WithStaticPeers returns StaticPeers and those of file, as ParseStaticPeersFile gave them. One that has the name or
// something else of one of StaticPeers is left out, and the error has a line for each of these.
func (c *Config) WithStaticPeers(file []StaticPeer) (all []StaticPeer, left error) {
	all = append(all, c.StaticPeers...)
	var problems []error
	for i := range file {
		p := &file[i]
		if err := p.checkUnlike(c.StaticPeers); err != nil {
			problems = append(problems, fmt.Errorf("%s: %s: what staticPeers (%s) has is kept: %w", p.Source, p.Name, c.Source("staticPeers"), err))
			continue
		}
		all = append(all, *p)
	}
	return all, errors.Join(problems...)
}

// parsePeerList returns the items of the list in text.
func parsePeerList(path string, text []byte) ([]*yaml.Node, error) {
	root, err := parseDocument(path, text)
	switch {
	case err != nil || root == nil:
		return nil, err
	case root.Kind == yaml.MappingNode:
		return nil, fmt.Errorf("%s:%d: expected a list, found a group of keys; write the items alone, without a key such as staticPeers", path, root.Line)
	case root.Kind != yaml.SequenceNode:
		return nil, fmt.Errorf("%s:%d: expected a list, found %s; write for instance - %s", path, root.Line, kindOf(root), staticExample)
	}
	return root.Content, nil
}

// parseDocument returns the one document in text, or nil if that holds nothing but comments.
func parseDocument(path string, text []byte) (*yaml.Node, error) {
	if line := unprintableLine(text); line != 0 {
		return nil, fmt.Errorf("%s:%d: not a text file in UTF-8", path, line)
	}
	loader, err := yaml.NewLoader(bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	var doc, second yaml.Node
	if err := loader.Load(&doc); errors.Is(err, io.EOF) {
		return nil, nil
	} else if err != nil {
		return nil, syntaxError(path, text, err)
	}
	if err := loader.Load(&second); err == nil {
		return nil, fmt.Errorf("%s:%d: a second document starts here; keep everything in one, without ---", path, second.Line)
	} else if !errors.Is(err, io.EOF) {
		return nil, syntaxError(path, text, err)
	}
	if len(doc.Content) == 0 || isNull(doc.Content[0]) {
		return nil, nil
	}
	return doc.Content[0], nil
}
