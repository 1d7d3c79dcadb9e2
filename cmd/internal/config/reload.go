package config

import (
	"maps"

	"github.com/spf13/pflag"
)

// Change is a key whose value is another in one configuration than in a former one. From and To are as in the file.
type Change struct {
	Key, From, To string
}

// Reload returns what a daemon that runs by c goes on by when its configuration has become next: c with the
// values of next for all keys that can change while it runs. Those are applied; waiting are the others, which
// take a restart, in the order of the file.
func (c *Config) Reload(next *Config) (live *Config, applied, waiting []Change) {
	mixed := *c
	mixed.origins = maps.Clone(c.origins)
	for _, d := range definitions("") {
		to := d.bind(next)
		change := Change{d.name, d.bind(c).String(), to.String()}
		switch {
		case change.From == change.To:
		case !d.live:
			waiting = append(waiting, change)
		default:
			applied = append(applied, change)
			d.bind(&mixed).(taker).take(to)
			mixed.origins[d.name] = next.origins[d.name]
		}
	}
	return &mixed, applied, waiting
}

// taker is a value that can be made another's of its key.
type taker interface{ take(pflag.Value) }

func (v *value[T]) take(from pflag.Value) { *v.field = *from.(*value[T]).field }
