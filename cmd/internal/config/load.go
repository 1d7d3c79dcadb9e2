package config

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/pflag"
)

const envPrefix = "WEFT_"

// Loader gathers a configuration from defaults, file, environment and flags. Make one with NewLoader; it is
// for one goroutine.
type Loader struct {
	defs   []definition
	flags  []*flagText // parallel to defs
	path   string
	config *pflag.Flag // nil before BindFlags
}

// NewLoader returns a Loader. hostname is the default of nodeName.
func NewLoader(hostname string) *Loader {
	l := &Loader{defs: definitions(hostname), path: DefaultPath}
	for _, d := range l.defs {
		v := d.bind(new(Config))
		l.flags = append(l.flags, &flagText{text: d.def, kind: v.Type(), list: d.list})
	}
	return l
}

// BindFlags adds --config and one flag for each key to flags. Values are checked by Load, together with all
// others.
func (l *Loader) BindFlags(flags *pflag.FlagSet) {
	flags.StringVar(&l.path, "config", DefaultPath, "configuration `file` in YAML; 'weftd config default' prints one")
	l.config = flags.Lookup("config")
	for i, d := range l.defs {
		// pflag would take a word in backquotes for the name of the value.
		f := flags.VarPF(l.flags[i], d.flag(), "", strings.ReplaceAll(d.help, "`", "'"))
		if l.flags[i].kind == "bool" {
			f.NoOptDefVal = "true"
		}
	}
}

// Load reads the file and applies it, environ (as os.Environ gives it) and the parsed flags over the defaults.
// The error joins one error for each problem found, each a single line that says where the value is written
// and what to write instead; they can be had one by one through Unwrap() []error.
func (l *Loader) Load(environ []string) (*Config, error) {
	g := &gathering{defs: l.defs, cfg: &Config{origins: map[string]origin{}}, bad: map[string]bool{}}
	for _, d := range l.defs {
		if d.def != "" {
			g.set(d, origin{}, d.def)
		}
	}
	if err := l.loadFile(g); err != nil {
		return nil, err
	}
	g.environment(environ)
	for i, d := range l.defs {
		if l.flags[i].changed {
			g.set(d, origin{flag: d.flag()}, l.flags[i].text)
		}
	}
	g.validate()
	if len(g.problems) > 0 {
		return nil, errors.Join(g.problems...)
	}
	return g.cfg, nil
}

// flagText keeps the text of a flag until Load parses it, so that one run reports the problems of flags with
// all others.
type flagText struct {
	text    string
	kind    string
	list    bool
	changed bool
}

func (f *flagText) String() string { return f.text }
func (f *flagText) Type() string   { return f.kind }

// Set takes the last text given. Those of a list are collected: --join a --join b is --join a,b.
func (f *flagText) Set(s string) error {
	if f.list && f.changed {
		s = f.text + "," + s
	}
	f.text, f.changed = s, true
	return nil
}

// gathering is one Load under way.
type gathering struct {
	defs     []definition
	cfg      *Config
	problems []error
	bad      map[string]bool // keys with a problem, which later checks leave alone
	broken   bool            // the file could not be taken apart, so that little is known of what belongs together
}

// set applies one value. It is parsed even where a later source overrides it: a wrong value is never right.
func (g *gathering) set(d definition, from origin, text string) {
	if err := d.bind(g.cfg).Set(text); err != nil {
		g.problem(d.name, from, "%w", err)
		return
	}
	g.cfg.origins[d.name] = from
}

// problem records what is wrong with the value of a key, as "where: key: what", or "where: what" where the
// place names the key already.
func (g *gathering) problem(key string, from origin, format string, args ...any) {
	g.bad[key] = true
	what := fmt.Errorf(format, args...)
	switch {
	case from.isDefault():
		g.problems = append(g.problems, fmt.Errorf("%s (default): %w", key, what))
	case from.file != "":
		g.problems = append(g.problems, fmt.Errorf("%s: %s: %w", from, key, what))
	default:
		g.problems = append(g.problems, fmt.Errorf("%s: %w", from, what))
	}
}

// environment applies the WEFT_ variables. One that is no key is most likely a typo, and ignoring it would
// start the daemon with a default that nobody chose.
func (g *gathering) environment(environ []string) {
	byEnv := make(map[string]definition, len(g.defs))
	names := make([]string, len(g.defs))
	for i, d := range g.defs {
		names[i] = d.env()
		byEnv[d.env()] = d
	}
	for _, entry := range environ {
		name, text, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(name, envPrefix) {
			continue
		}
		d, ok := byEnv[name]
		if !ok {
			g.problems = append(g.problems, fmt.Errorf("%s: no such setting%s", name, didYouMean(name, names, "`weftd config default` lists the keys, and podCIDR is WEFT_POD_CIDR here")))
			continue
		}
		g.set(d, origin{env: name}, text)
	}
}
