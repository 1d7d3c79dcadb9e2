package config

import (
	"errors"
	"fmt"
	"strings"

	"github.com/agext/levenshtein"
	"github.com/spf13/pflag"
)

// maxTypos is how many letters a name may be off to be suggested; more, and the suggestion is a guess.
const maxTypos = 2

// Suggest returns the name nearest to given, or "" if none is near. Case, dashes and underscores count for
// nothing, so that pod_cidr finds podCIDR.
func Suggest(given string, names []string) string {
	best, least := "", maxTypos+1
	for _, name := range names {
		if d := levenshtein.Distance(bare(given), bare(name), nil); d < least {
			best, least = name, d
		}
	}
	return best
}

func bare(name string) string {
	return strings.ToLower(strings.NewReplacer("-", "", "_", "").Replace(name))
}

// didYouMean returns the end of a message about an unknown name: the nearest name, or else where to look.
func didYouMean(given string, names []string, look string) string {
	if s := Suggest(given, names); s != "" {
		return "; did you mean " + s + "?"
	}
	return "; " + look
}

// FlagError returns err, an error of flags.Parse, with a suggestion where it was caused by an unknown flag.
// It is made for cobra's SetFlagErrorFunc.
func FlagError(flags *pflag.FlagSet, err error) error {
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) {
		return err
	}
	var names []string
	flags.VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			names = append(names, "--"+f.Name)
		}
	})
	return fmt.Errorf("%w%s", err, didYouMean("--"+unknown.GetSpecifiedName(), names, "--help lists the flags"))
}
