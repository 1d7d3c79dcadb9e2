package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/weft-net/weft/cmd/internal/config"
)

// The configuration that the Kubernetes manifest has is one that weftd takes.
func TestManifestConfig(t *testing.T) {
	manifest, err := os.ReadFile("kubernetes/weft.yaml")
	if err != nil {
		t.Fatal(err)
	}
	_, block, ok := strings.Cut(string(manifest), "  weft.yaml: |\n")
	if !ok {
		t.Fatal("no weft.yaml in the ConfigMap")
	}
	block, _, _ = strings.Cut(block, "\n---\n")
	path := filepath.Join(t.TempDir(), "weft.yaml")
	if err := os.WriteFile(path, []byte(strings.ReplaceAll("\n"+block, "\n    ", "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	loader, flags := config.NewLoader(""), pflag.NewFlagSet("weftd", pflag.ContinueOnError)
	loader.BindFlags(flags)
	if err := flags.Parse([]string{"--config", path}); err != nil {
		t.Fatal(err)
	}
	c, err := loader.Load([]string{"WEFT_NODE_NAME=node1"})
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := strings.Cut(c.MetricsAddress, ":")
	if strings.Count(string(manifest), "port: "+port+", path: ") != 2 {
		t.Errorf("the probes do not ask at metricsAddress, %s", c.MetricsAddress)
	}
}

// What the packages are to hold of the source is there.
func TestPackageSources(t *testing.T) {
	text, err := os.ReadFile("packaging/nfpm.yaml")
	if err != nil {
		t.Fatal(err)
	}
	sources := regexp.MustCompile(`(?:src|install|remove): ([^" ,$\n]+)`).FindAllSubmatch(text, -1)
	if len(sources) < 12 {
		t.Fatalf("%d sources in nfpm.yaml", len(sources))
	}
	for _, s := range sources {
		if _, err := os.Stat(filepath.Join("../..", string(s[1]))); err != nil {
			t.Error(err)
		}
	}
}
