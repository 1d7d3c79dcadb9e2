//go:build netns

package e2e

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
)

const (
	imageName = "weft.test/busybox:1"

	// peerPage is a page of the image's web server: the address that it sees its client have.
	peerPage = "/cgi-bin/peer"

	// pageRequest asks for it. (The wget of Debian's static busybox crashes in the C library's getaddrinfo.)
	pageRequest = "GET " + peerPage + " HTTP/1.0\r\n\r\n"

	// peerScript makes it (RFC 3875).
	peerScript = "#!/bin/sh\necho\necho $REMOTE_ADDR\n"
)

// writeImage writes a container image to path, in the format of `docker save`: a static busybox that sleeps. It serves
// pods as their sandbox too, and the Kubernetes manifest as the busybox that it has.
func writeImage(path string) error {
	busybox, err := staticBusybox()
	if err != nil {
		return err
	}
	layer, err := archive(
		file{"bin/", nil}, file{"etc/", nil}, file{"tmp/", nil}, file{"www/", nil}, file{"www/cgi-bin/", nil},
		file{"bin/busybox", busybox}, file{"bin/sh", busybox}, file{"bin/sysctl", busybox},
		file{"www" + peerPage, []byte(peerScript)},
	)
	if err != nil {
		return err
	}
	type object = map[string]any
	config, err := json.Marshal(object{
		"architecture": runtime.GOARCH, "os": "linux",
		"config": object{"Entrypoint": []string{"/bin/busybox", "sleep", "86400"}, "Env": []string{"PATH=/bin"}},
		"rootfs": object{"type": "layers", "diff_ids": []string{fmt.Sprintf("sha256:%x", sha256.Sum256(layer))}},
	})
	if err != nil {
		return err
	}
	manifest, err := json.Marshal([]object{{"Config": "config.json", "RepoTags": []string{imageName}, "Layers": []string{"layer.tar"}}})
	if err != nil {
		return err
	}
	image, err := archive(file{"manifest.json", manifest}, file{"config.json", config}, file{"layer.tar", layer})
	if err != nil {
		return err
	}
	return os.WriteFile(path, image, 0o600)
}

// staticBusybox returns the program: in an image without a C library a dynamic one does not start.
func staticBusybox() ([]byte, error) {
	path, err := exec.LookPath("busybox")
	if err != nil {
		return nil, fmt.Errorf("%w: apt-get install busybox-static", err)
	}
	binary, err := elf.Open(path)
	if err != nil {
		return nil, err
	}
	defer binary.Close()
	for _, segment := range binary.Progs {
		if segment.Type == elf.PT_INTERP {
			return nil, errors.New(path + " is not static: apt-get install busybox-static")
		}
	}
	return os.ReadFile(path)
}

// file is one of an archive, a directory where its name ends in a slash.
type file struct {
	name    string
	content []byte
}

func archive(files ...file) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		header := tar.Header{Name: f.name, Mode: 0o755, Size: int64(len(f.content)), Typeflag: tar.TypeReg}
		if f.name[len(f.name)-1] == '/' {
			header.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(&header); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.content); err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return b.Bytes(), err
}
