package main

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"regexp"
	"slices"
	"strings"
)

// redacted stands where a secret was.
const redacted = "[removed]"

// secrets are those that are known, in every form in which they may appear. The zero value knows none.
type secrets struct{ forms map[string]bool }

const (
	// shortest is what counts as a secret: a gossip key of 16 bytes is 24 letters of base64.
	shortest = 16

	// deepest bounds how often base64 is in base64: a key in the ring in its message in a file.
	deepest = 4
)

// token is what may be base64 or hexadecimal.
// Immutable.
var token = regexp.MustCompile(`[A-Za-z0-9+/_-]{16,}={0,2}`)

// learn takes the text of a file that is secret as a whole: each of its words, and what they stand for.
func (s *secrets) learn(text []byte) { s.learnAt(text, 0) }

func (s *secrets) learnAt(text []byte, depth int) {
	for line := range bytes.Lines(text) {
		if line = bytes.TrimSpace(line); !bytes.HasPrefix(line, []byte("-----")) { // of PEM, which is on every such file
			s.add(string(line))
		}
	}
	if block, _ := pem.Decode(text); block != nil {
		s.addBytes(block.Bytes)
	}
	for _, word := range token.FindAll(text, -1) {
		if bytes.HasPrefix(word, []byte("-----")) {
			continue
		}
		s.add(string(word))
		for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			decoded, err := encoding.DecodeString(strings.TrimRight(string(word), "="))
			if err != nil || len(decoded) == 0 {
				continue
			}
			s.addBytes(decoded)
			if depth < deepest {
				s.learnAt(decoded, depth+1)
			}
		}
	}
}

// addBytes adds the forms in which programs print bytes. A private key in PKCS #8 (RFC 5958) ends in its 32 bytes.
func (s *secrets) addBytes(b []byte) {
	whole := b
	for _, b := range [][]byte{whole, whole[max(0, len(whole)-32):]} {
		for _, form := range []string{
			string(b), hex.EncodeToString(b), strings.ToUpper(hex.EncodeToString(b)),
			base64.RawStdEncoding.EncodeToString(b), base64.RawURLEncoding.EncodeToString(b),
		} {
			s.add(form)
		}
	}
}

func (s *secrets) add(form string) {
	if s.forms == nil {
		s.forms = make(map[string]bool)
	}
	if len(form) >= shortest {
		s.forms[form] = true
	}
}

// suspects are what looks like a secret of anybody's: 32 bytes in base64, such as the keys of weft and of WireGuard;
// private keys in PEM; the sysctls that are keys; what is called a password, also where JSON is in JSON.
// Immutable.
var suspects = []struct {
	pattern *regexp.Regexp
	by      string
}{
	{regexp.MustCompile(`(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|\z)`), redacted},
	{regexp.MustCompile(`(^|[^A-Za-z0-9+/_-])[A-Za-z0-9+/_-]{43}=`), "${1}" + redacted},
	{regexp.MustCompile(`(?i)((?:passw(?:or)?d|passphrase|secret|token|psk|(?:private|fastopen|api|access|auth)[-_]?key)(?:\\?["'])?\s*[=:]\s*)(\\?"[^"\n\\]*\\?"|'[^'\n]*'|[^\s"',}\\]+)`), "${1}" + redacted},
}

// remove returns text without secrets. text is not changed.
func (s *secrets) remove(text []byte) []byte {
	forms := make([]string, 0, 2*len(s.forms))
	for form := range s.forms {
		forms = append(forms, form)
	}
	// The longest first, so that nothing of it is left where another is a part of it.
	slices.SortFunc(forms, func(a, b string) int { return len(b) - len(a) })
	var pairs []string
	for _, form := range forms {
		pairs = append(pairs, form, redacted)
	}
	clean := []byte(strings.NewReplacer(pairs...).Replace(string(text)))
	for _, suspect := range suspects {
		clean = suspect.pattern.ReplaceAll(clean, []byte(suspect.by))
	}
	return clean
}
