// Package cmd_test holds the rules of the house that a compiler does not check.
package cmd_test

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/weft-net/weft/"

type goPackage struct {
	ImportPath string
	Dir        string
	Doc        string
	GoFiles    []string
	Imports    []string
}

func (p goPackage) name() string { return strings.TrimPrefix(p.ImportPath, module) }

func packages(t *testing.T) []goPackage {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Dir,Doc,GoFiles,Imports", module+"...").Output()
	if err != nil {
		t.Fatal(err)
	}
	var all []goPackage
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p goPackage
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if len(p.GoFiles) > 0 { // else tests only, such as this
			all = append(all, p)
		}
	}
	if len(all) < 10 {
		t.Fatalf("go list found %d packages", len(all))
	}
	return all
}

// within says whether the package path is one of the trees, or below one.
func within(path string, trees ...string) bool {
	return slices.ContainsFunc(trees, func(tree string) bool {
		return path == tree || strings.HasPrefix(path, tree+"/")
	})
}

func TestImports(t *testing.T) {
	own := func(trees ...string) []string {
		for i := range trees {
			trees[i] = module + trees[i]
		}
		return trees
	}
	rules := []struct {
		imported []string // these trees
		by       []string // may be imported by these only
		reason   string
	}{
		{own("dataplane"), []string{"dataplane", "cmd/weftd", "bench"}, "only what assembles a node may know the packet path"},
		{own("dataplane/packet/reference", "dataplane/dataplanetest"), []string{"dataplane/dataplanetest"}, "what is slow or fake is for tests"},
		{own("encap"), []string{"encap", "dataplane", "cmd/weftd", "bench"}, "the underlay is the dataplane's"},
		{own("dataplane/device"), []string{"dataplane", "cmd/weftd", "bench"}, "encap and device know nothing of each other"},
		{own("membership"), []string{"membership", "cmd", "bench"}, "the dataplane does not know how peers are found"},
		{own("cni"), []string{"cni", "cmd", "bench"}, "neither the dataplane nor membership knows how pods come"},
		{[]string{"github.com/containernetworking/cni"}, []string{"cni", "cmd"}, "the runtimes' protocol ends here"},
		{own("cmd"), []string{"cmd", "bench/demo"}, "commands stand on top"},
		{own("bench"), []string{"bench"}, "what is shipped does not build test networks"},
		{[]string{"golang.org/x/sys/unix"}, []string{"dataplane/arena", "dataplane/device", "dataplane/firewall", "dataplane/host", "dataplane/poll", "dataplane/dataplanetest", "encap", "cni", "bench", "cmd/weftd", "cmd/internal/doctor", "cmd/internal/handover"}, "system calls stay at the edges"},
		{[]string{"github.com/hashicorp/memberlist"}, []string{"membership/gossip"}, "one importer for each client"},
		{[]string{"github.com/fsnotify/fsnotify"}, []string{"membership/static"}, "one importer for each client"},
		{[]string{"golang.zx2c4.com/wireguard"}, []string{"dataplane/device"}, "one importer for the TUN library"},
		{[]string{"github.com/songgao/water"}, []string{"dataplane/device"}, "one importer for the TAP library"},
		{[]string{"github.com/vishvananda/netlink"}, []string{"dataplane/host", "cni", "bench/topo"}, "the kernel's state is changed in one place"},
		{[]string{"github.com/google/nftables"}, []string{"dataplane/firewall", "cni/wiring"}, "the node's rules are made in one place, the pods' in another"},
		{own("dataplane/path"), []string{"dataplane/path", "cmd/weftd", "bench"}, "the engine knows nothing of probes"},
		{[]string{"github.com/gaissmai/bart"}, []string{"dataplane/route"}, "one importer for the table"},
		{[]string{"github.com/google/gopacket"}, []string{"cmd/weft"}, "off the hot path, and nowhere in the daemon: its decoders may panic"},
		{[]string{"github.com/prometheus"}, []string{"cmd/internal/metrics"}, "one importer for each client"},
		{[]string{"github.com/spf13/cobra"}, []string{"cmd/weftd", "cmd/weft"}, "the libraries know no command line"},
	}
	vocabulary := own("dataplane/offload") // names, which configuration and sockets share
	for _, p := range packages(t) {
		for _, imported := range p.Imports {
			if slices.Contains(vocabulary, imported) {
				continue
			}
			for _, r := range rules {
				if within(imported, r.imported...) && !within(p.name(), r.by...) {
					t.Errorf("%s imports %s: %s", p.name(), imported, r.reason)
				}
			}
		}
	}
}

func TestStandardLibraryOnly(t *testing.T) {
	for _, p := range packages(t) {
		if !slices.Contains([]string{"membership", "dataplane/packet", "dataplane/offload"}, p.name()) {
			continue
		}
		for _, imported := range p.Imports {
			if first, _, _ := strings.Cut(imported, "/"); strings.Contains(first, ".") {
				t.Errorf("%s imports %s: its rules must be readable, and simulated, without any library", p.name(), imported)
			}
		}
	}
}

func TestEveryPackageSaysWhatItIs(t *testing.T) {
	for _, p := range packages(t) {
		if p.Doc == "" {
			t.Errorf("%s has no doc comment", p.name())
		}
	}
}

// Files that may read the environment: it is an input of programs, not of packages.
var readsEnvironment = []string{"cmd/weftd/main.go", "cmd/weft/main.go", "bench/main.go", "bench/demo/main.go", "bench/soak/main.go"}

func TestNoHiddenState(t *testing.T) {
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range packages(t) {
		for _, name := range p.GoFiles {
			path := filepath.Join(p.Dir, name)
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			short, err := filepath.Rel(root, path)
			if err != nil {
				t.Fatal(err)
			}
			checkFile(t, short, file)
		}
	}
}

func checkFile(t *testing.T, path string, file *ast.File) {
	for _, decl := range file.Decls {
		switch d := decl.(type) {
		case *ast.FuncDecl:
			if d.Recv == nil && d.Name.Name == "init" {
				t.Errorf("%s: init() runs where nobody called it", path)
			}
		case *ast.GenDecl:
			if d.Tok == token.VAR && !immutable(d) {
				t.Errorf("%s: package-level variable %s: only errors, and tables whose comment says \"Immutable\"", path, d.Specs[0].(*ast.ValueSpec).Names[0])
			}
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		pkg, ok := sel.X.(*ast.Ident)
		if ok && pkg.Name == "os" && slices.Contains([]string{"Getenv", "LookupEnv", "Environ"}, sel.Sel.Name) && !slices.Contains(readsEnvironment, filepath.ToSlash(path)) {
			t.Errorf("%s: os.%s: the environment is read by programs only, in main.go", path, sel.Sel.Name)
		}
		return true
	})
}

// immutable says whether every variable of d is a sentinel error or the blank
// identifier, or whether d is documented as a table that nobody changes.
func immutable(d *ast.GenDecl) bool {
	if d.Doc != nil && strings.Contains(d.Doc.Text(), "Immutable") {
		return true
	}
	for _, s := range d.Specs {
		v := s.(*ast.ValueSpec)
		for i, name := range v.Names {
			if name.Name != "_" && (i >= len(v.Values) || !isErrorsNew(v.Values[i])) {
				return false
			}
		}
	}
	return true
}

func isErrorsNew(e ast.Expr) bool {
	call, ok := e.(*ast.CallExpr)
	if !ok {
		return false
	}
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	pkg, ok := sel.X.(*ast.Ident)
	return ok && (pkg.Name == "errors" && sel.Sel.Name == "New" || pkg.Name == "fmt" && sel.Sel.Name == "Errorf")
}

// The top-level folders are fixed by the user of this project.
func TestTopLevelFolders(t *testing.T) {
	entries, err := os.ReadDir("..")
	if err != nil {
		t.Fatal(err)
	}
	allowed := []string{"dataplane", "encap", "membership", "cni", "cmd", "bench", "testdata", "bin",
		"go.mod", "go.sum", "Makefile", "README.md", "ARCHITECTURE.md", "CHANGELOG.md", "SECURITY.md", "LICENSE"}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") && !slices.Contains(allowed, e.Name()) {
			t.Errorf("%s does not belong at the top level", e.Name())
		}
	}
}
