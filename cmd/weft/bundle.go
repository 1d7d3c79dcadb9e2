package main

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/weft-net/weft/cmd/internal/config"
	"github.com/weft-net/weft/cmd/internal/control"
)

func (c *cli) bundleCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "support-bundle",
		Short: "Gather what helps to find a fault, without keys",
		Long: `Gather in one file what helps somebody else to find a fault on this node: what
weft status, peers, routes, drops, doctor and metrics say, weftd's log, its
configuration, and what the kernel has of interfaces, routes, firewall rules,
sysctls, offloads and sockets. Run it as root, or much of that is missing.

Keys are left out: the contents of key files wherever they appear, what looks like
a key or a password, and the comments of the configuration. Addresses, names of
nodes and interfaces, firewall rules and the programs that listen stay: read the
file before you give it away.`,
		Example: `  sudo weft support-bundle
  sudo weft support-bundle -o /tmp/node1.tar.gz && tar -tzvf /tmp/node1.tar.gz`,
		Args: noArgs,
	}
	out := cmd.Flags().StringP("out", "o", "", "`file` to write, which must not exist; weft-NODE-TIME.tar.gz here unless set")
	path := cmd.Flags().String("config", config.DefaultPath, "configuration `file` of weftd")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if cmd.Flags().Changed("out") && *out == "" {
			return usagef("--out needs the name of a file, for instance /tmp/node1.tar.gz")
		}
		client := control.NewClient(c.socket)
		defer client.Close()
		b := &bundle{client: client, config: *path, environ: c.environ, now: c.now(), command: runTool}
		b.learn()
		return c.giveBundle(cmd.Context(), b, *out)
	}
	return cmd
}

// bundleLimit bounds the gathering of all.
const bundleLimit = 2 * time.Minute

// bundled is what `weft support-bundle --json` prints.
type bundled struct {
	Path  string        `json:"path"`
	Files []bundledFile `json:"files"`
}

// bundledFile is one file of a bundle.
type bundledFile struct {
	Name  string `json:"name"`
	Size  int    `json:"size"`            // bytes
	Error string `json:"error,omitempty"` // why it is missing or not whole, "" where it is whole
}

// giveBundle gathers b into a new file and says what is in it. A file that is not finished is removed.
func (c *cli) giveBundle(ctx context.Context, b *bundle, path string) (err error) {
	ctx, cancel := context.WithTimeout(ctx, bundleLimit)
	defer cancel()
	if path == "" {
		path = fmt.Sprintf("weft-%s-%s.tar.gz", b.node(ctx), b.now.UTC().Format("20060102T150405Z"))
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("write the bundle: %w: choose another file with --out", err)
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			err = errors.Join(err, os.Remove(path))
		}
	}()
	files, err := b.write(ctx, f, strings.TrimSuffix(filepath.Base(path), ".tar.gz"))
	if err != nil {
		return fmt.Errorf("write the bundle %s: %w", path, err)
	}
	if c.json {
		return c.printJSON(bundled{path, files})
	}
	var rows [][]cell
	for _, file := range files {
		rows = append(rows, []cell{text(file.Name), {text: size(uint64(file.Size)), right: true}, painted(file.Error, yellow)})
	}
	writeTable(c.out, c.style, "  ", append([][]cell{headings("FILE", ">SIZE", "NOT WHOLE")}, rows...))
	_, err = fmt.Fprintf(c.out, "Wrote %s. Keys are left out; addresses and names are in it: read it before you give it away.\n", printable(path))
	return err
}

// write gathers all of b into a compressed tar archive, in the folder dir. What cannot be had is no error: the file says
// why.
func (b *bundle) write(ctx context.Context, w io.Writer, dir string) (files []bundledFile, err error) {
	zip := gzip.NewWriter(w)
	archive := tar.NewWriter(zip)
	for _, i := range b.items() {
		content, trouble := i.get(ctx)
		if ctx.Err() != nil && errors.Is(context.Cause(ctx), context.Canceled) {
			return nil, ctx.Err()
		}
		content = b.secrets.remove(content)
		file := bundledFile{Name: i.name, Size: len(content)}
		if trouble != nil {
			file.Error = string(b.secrets.remove([]byte(oneLine(trouble))))
			content = append(content, "\n[not whole: "+file.Error+"]\n"...)
		}
		header := &tar.Header{Name: dir + "/" + i.name, Mode: 0o600, Size: int64(len(content)), ModTime: b.now, Format: tar.FormatPAX}
		if err := archive.WriteHeader(header); err != nil {
			return nil, err
		}
		if _, err := archive.Write(content); err != nil {
			return nil, err
		}
		files = append(files, file)
	}
	return files, errors.Join(archive.Close(), zip.Close())
}

func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }
