package main

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// folders are what the image has beside the programs: where weftd keeps what it has, and mount points. Immutable.
var folders = []string{"etc/", "etc/weft/", "run/", "run/weft/", "tmp/", "usr/", "usr/bin/", "var/", "var/lib/", "var/lib/weft/"}

// image writes an OCI archive: one index, with an image for each architecture.
func image(j job) error {
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, of := range j.of {
		arch, dir, ok := strings.Cut(of, "=")
		if !ok {
			return fmt.Errorf("image of %q: want ARCHITECTURE=FOLDER", of)
		}
		img, err := imageOf(j, arch, dir)
		if err != nil {
			return fmt.Errorf("make the image for %s: %w", arch, err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}},
		})
	}
	dir, err := os.MkdirTemp("", "weft-image")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		return fmt.Errorf("write the image: %w", err)
	}
	tag := strings.ReplaceAll(j.version, "+", "-") // which no tag may have (distribution specification, "Pulling manifests")
	names := map[string]string{"org.opencontainers.image.ref.name": tag, "io.containerd.image.name": "docker.io/library/weft:" + tag}
	if err := path.AppendIndex(index, layout.WithAnnotations(names)); err != nil {
		return fmt.Errorf("write the image: %w", err)
	}
	return archive(j, dir)
}

// imageOf is a scratch image with the programs in dir.
func imageOf(j job, arch, dir string) (v1.Image, error) {
	root, err := rootfs(j, dir)
	if err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(root)), nil },
		tarball.WithMediaType(types.OCILayer))
	if err != nil {
		return nil, err
	}
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	made := v1.Time{Time: j.made}
	if img, err = mutate.Append(img, mutate.Addendum{Layer: layer, History: v1.History{Created: made, CreatedBy: "make package"}}); err != nil {
		return nil, err
	}
	return mutate.ConfigFile(img, configOf(img, made, arch, j.version))
}

func configOf(img v1.Image, made v1.Time, arch, version string) *v1.ConfigFile {
	c, err := img.ConfigFile()
	if err != nil { // of an image that was made here
		panic(err)
	}
	c = c.DeepCopy()
	c.Created, c.OS, c.Architecture = made, "linux", arch
	c.Config = v1.Config{
		Entrypoint: []string{"/usr/bin/weftd"},
		Env:        []string{"PATH=/usr/bin"},
		WorkingDir: "/",
		// A runtime does not say whether weftd is to come back, as it is in an upgrade: killed, weftd leaves TUN, routes and rules
		// to the next one, whereas at SIGTERM it removes them. What is left for good `weft down` removes.
		StopSignal: "SIGKILL",
		Labels: map[string]string{
			"org.opencontainers.image.title":   "weft",
			"org.opencontainers.image.version": version,
			"org.opencontainers.image.source":  "https://github.com/weft-net/weft",
		},
	}
	return c
}

// rootfs is a tar of the root directory.
func rootfs(j job, dir string) ([]byte, error) {
	var b bytes.Buffer
	t := tar.NewWriter(&b)
	for _, name := range folders {
		mode := int64(0o755)
		if name == "tmp/" {
			mode = 0o1777
		}
		if err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: mode, ModTime: j.made}); err != nil {
			return nil, err
		}
	}
	for _, name := range []string{"weft", "weft-cni", "weftd"} {
		if err := addFile(t, filepath.Join(dir, name), &tar.Header{Name: "usr/bin/" + name, Mode: 0o755, ModTime: j.made}); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), t.Close()
}

func addFile(t *tar.Writer, path string, h *tar.Header) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	h.Typeflag, h.Size = tar.TypeReg, int64(len(text))
	if err := t.WriteHeader(h); err != nil {
		return err
	}
	_, err = t.Write(text)
	return err
}

// archive writes what is in dir, in the order of its names, as a tar.
func archive(j job, dir string) (err error) {
	f, err := os.Create(j.out)
	if err != nil {
		return err
	}
	defer func() {
		if closing := f.Close(); err == nil {
			err = closing
		}
	}()
	t := tar.NewWriter(f)
	if err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		name, relErr := filepath.Rel(dir, path)
		switch {
		case err != nil:
			return err
		case relErr != nil:
			return relErr
		case name == ".":
			return nil
		case d.IsDir():
			return t.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: 0o755, ModTime: j.made})
		}
		return addFile(t, path, &tar.Header{Name: name, Mode: 0o644, ModTime: j.made})
	}); err != nil {
		return fmt.Errorf("write %s: %w", j.out, err)
	}
	return t.Close()
}
