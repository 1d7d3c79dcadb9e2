// Weft-cni is the CNI plugin of the weft pod network: a container runtime runs it for each pod that comes or goes.
//
// What it is to do stands in the environment and on stdin, as the CNI specification says; package cni does it.
package main

import (
	"cmp"
	"fmt"
	"os"

	"github.com/containernetworking/cni/pkg/skel"

	"github.com/weft-net/weft/cmd/internal/node"
	"github.com/weft-net/weft/cmd/internal/version"
	"github.com/weft-net/weft/cni"
)

const about = "weft-cni is run by container runtimes, which call it by a network configuration such as\n" +
	"/etc/cni/net.d/10-weft.conflist; weftd writes that file. Nothing is done when it is run by hand:\n" +
	"`weft pod add` makes a pod without any runtime, `weft-cni --version` prints the version."

func main() {
	if len(os.Args) > 1 { // runtimes give none
		os.Exit(byHand(os.Args[1:]))
	}
	skel.PluginMainFuncs(cni.Plugin(os.Stdout, daemon), cni.Versions(), about)
}

func daemon(socket string) cni.Daemon { return node.New(cmp.Or(socket, node.DefaultSocket)) }

// byHand answers a person, and returns the exit status.
func byHand(args []string) int {
	if len(args) == 1 && (args[0] == "--version" || args[0] == "version") {
		fmt.Println(version.String())
		return 0
	}
	if len(args) == 1 && (args[0] == "--help" || args[0] == "-h") {
		fmt.Println(about)
		return 0
	}
	fmt.Fprintf(os.Stderr, "weft-cni: unknown argument %q; see weft-cni --help\n", args[0])
	return 2
}
