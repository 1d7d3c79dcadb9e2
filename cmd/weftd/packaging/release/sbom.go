package main

import (
	"cmp"
	"crypto/sha256"
	"debug/buildinfo"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdx/v2/common"
	spdx "github.com/spdx/tools-golang/spdx/v2/v2_3"
)

// sbom writes what the Go linker noted in each program: its main module, and the modules that it is built of.
func sbom(j job) error {
	doc := &spdx.Document{
		SPDXVersion: spdx.Version, DataLicense: spdx.DataLicense, SPDXIdentifier: "DOCUMENT",
		DocumentName: "weft-" + j.version,
		CreationInfo: &spdx.CreationInfo{
			Creators: []common.Creator{{CreatorType: "Tool", Creator: "github.com/weft-net/weft/cmd/weftd/packaging/release"}},
			Created:  j.made.Format(time.RFC3339),
		},
	}
	sums := sha256.New()
	modules := make(map[string]bool)
	for _, path := range j.of {
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		info, err := buildinfo.ReadFile(path)
		if err != nil {
			return fmt.Errorf("read what %s is built of: %w", path, err)
		}
		sums.Write(text)
		program := programOf(path, text, info, j.version)
		doc.Packages = append(doc.Packages, program)
		doc.Relationships = append(doc.Relationships, relation("DOCUMENT", common.TypeRelationshipDescribe, program.PackageSPDXIdentifier))
		parts := append([]*debug.Module{{Path: "std", Version: info.GoVersion}}, info.Deps...)
		for _, m := range parts {
			p := moduleOf(m)
			if !modules[string(p.PackageSPDXIdentifier)] {
				modules[string(p.PackageSPDXIdentifier)] = true
				doc.Packages = append(doc.Packages, p)
			}
			doc.Relationships = append(doc.Relationships, relation(program.PackageSPDXIdentifier, common.TypeRelationshipContains, p.PackageSPDXIdentifier))
		}
	}
	// A name of its own for each content (SPDX 2.3 section 6.5).
	doc.DocumentNamespace = fmt.Sprintf("https://github.com/weft-net/weft/spdx/%s-%x", j.version, sums.Sum(nil))
	f, err := os.Create(j.out)
	if err != nil {
		return err
	}
	if err := json.Write(doc, f, json.Indent("  ")); err != nil {
		f.Close()
		return fmt.Errorf("write %s: %w", j.out, err)
	}
	return f.Close()
}

// programOf describes a program, by its folder's name too, which is its architecture.
func programOf(path string, text []byte, info *buildinfo.BuildInfo, version string) *spdx.Package {
	arch := filepath.Base(filepath.Dir(path))
	name := filepath.Base(path)
	return &spdx.Package{
		PackageName: name + " for linux/" + arch, PackageSPDXIdentifier: id("program", name, arch),
		PackageVersion: version, PackageFileName: name, PrimaryPackagePurpose: "APPLICATION",
		PackageSupplier:         &common.Supplier{Supplier: "NOASSERTION"},
		PackageDownloadLocation: "https://" + info.Main.Path,
		PackageChecksums:        []common.Checksum{{Algorithm: common.SHA256, Value: fmt.Sprintf("%x", sha256.Sum256(text))}},
		PackageLicenseConcluded: "NOASSERTION", PackageLicenseDeclared: "NOASSERTION", PackageCopyrightText: "NOASSERTION",
	}
}

func moduleOf(m *debug.Module) *spdx.Package {
	m = cmp.Or(m.Replace, m)
	return &spdx.Package{
		PackageName: m.Path, PackageSPDXIdentifier: id("module", m.Path, m.Version), PackageVersion: m.Version,
		PackageSupplier: &common.Supplier{Supplier: "NOASSERTION"}, PackageDownloadLocation: "NOASSERTION",
		PackageLicenseConcluded: "NOASSERTION", PackageLicenseDeclared: "NOASSERTION", PackageCopyrightText: "NOASSERTION",
		PackageExternalReferences: []*spdx.PackageExternalReference{{
			Category: "PACKAGE-MANAGER", RefType: "purl", Locator: "pkg:golang/" + m.Path + "@" + m.Version,
		}},
	}
}

// id is an SPDX identifier: letters, digits, dots and hyphens.
func id(parts ...string) common.ElementID {
	return common.ElementID(strings.Map(func(r rune) rune {
		if r < 128 && (r == '.' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z') {
			return r
		}
		return '-'
	}, strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), "-")))
}

func relation(a common.ElementID, what string, b common.ElementID) *spdx.Relationship {
	return &spdx.Relationship{
		RefA: common.DocElementID{ElementRefID: a}, Relationship: what, RefB: common.DocElementID{ElementRefID: b},
	}
}
