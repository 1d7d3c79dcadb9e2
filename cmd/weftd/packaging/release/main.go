// Release makes what a package builder does not: the container image of weft, as an OCI archive, and the list
// of what its programs are built of, as SPDX. The same input gives the same bytes.
//
//	release image -version V -epoch SECONDS -out FILE amd64=DIR arm64=DIR
//	release sbom -version V -epoch SECONDS -out FILE PROGRAM...
//
// It is a module of its own, so that weft itself depends on nothing of what it needs.
package main

import (
	"flag"
	"fmt"
	"os"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

// job is what to make, and of what.
type job struct {
	version string
	made    time.Time
	out     string
	of      []string
}

func run(args []string) error {
	makes := map[string]func(job) error{"image": image, "sbom": sbom}
	if len(args) == 0 || makes[args[0]] == nil {
		return fmt.Errorf("say what to make: image or sbom")
	}
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	var j job
	flags.StringVar(&j.version, "version", "", "of weft")
	flags.StringVar(&j.out, "out", "", "file to write")
	epoch := flags.Int64("epoch", 0, "seconds since 1970 that everything is dated")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	j.made, j.of = time.Unix(*epoch, 0).UTC(), flags.Args()
	if j.version == "" || j.out == "" || len(j.of) == 0 {
		return fmt.Errorf("%s: give -version, -out, and what to make it of", args[0])
	}
	return makes[args[0]](j)
}
