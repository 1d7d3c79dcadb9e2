package cni

import (
	"fmt"
	"strings"
)

// arguments are what weft reads of CNI_ARGS.
type arguments struct {
	ips []string
	pod string // "namespace/name"
}

// parseArgs reads "KEY=VALUE;KEY=VALUE". A key that nobody knows is an error unless IgnoreUnknown is among them, which
// all runtimes set, or it is one of Kubernetes'.
func parseArgs(text string) (arguments, error) {
	var a arguments
	var namespace, unknown string
	ignore := false
	for pair := range strings.SplitSeq(text, ";") {
		if pair == "" {
			continue
		}
		name, value, found := strings.Cut(pair, "=")
		switch {
		case !found:
			return a, fmt.Errorf("CNI_ARGS: %q is not of the form KEY=VALUE", pair)
		case name == "IP" && value != "":
			a.ips = strings.Split(value, ",")
		case name == "K8S_POD_NAMESPACE":
			namespace = value
		case name == "K8S_POD_NAME":
			a.pod = value
		case name == "IgnoreUnknown":
			ignore = value == "1" || strings.EqualFold(value, "true")
		case name != "IP" && !strings.HasPrefix(name, "K8S_"):
			unknown = name
		}
	}
	if unknown != "" && !ignore {
		return a, fmt.Errorf("CNI_ARGS: %q is unknown to weft-cni; leave it out, or add IgnoreUnknown=1", unknown)
	}
	if namespace != "" && a.pod != "" {
		a.pod = namespace + "/" + a.pod
	}
	return a, nil
}
