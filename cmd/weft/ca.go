package main

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weft-net/weft/cmd/internal/authority"
	"github.com/weft-net/weft/cmd/internal/config"
)

func (c *cli) caCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ca",
		Short: "Say who may be a node: an authority, and certificates",
		Long: `Say who may be a node. Without an authority whoever has the gossip key can join,
and claim any block. With one, only nodes that have its certificate are members,
and only inside the blocks that the certificate names, if any.

1. weft ca init      makes the authority, on a machine of yours
2. weft id           on each node, prints the ID of the node
3. weft ca sign      makes the certificate for that ID
4. copy ca.pub and the certificate to the node, set clusterCA there, restart weftd

No clock takes part: a certificate does not expire.`,
		Example: `  weft ca init
  weft ca sign --node $(ssh node2 sudo weft id) --out node2.cert`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("weft ca has no command %q; there are `weft ca init` and `weft ca sign`", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(c.caInitCommand(), c.caSignCommand())
	return cmd
}

func (c *cli) caInitCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Make an authority",
		Long: `Make an authority: ca.key, by which certificates are signed, and ca.pub, by which
nodes check them. Files that exist are kept.

Who has ca.key decides who is a node. No node needs it: keep it elsewhere.`,
		Example: `  weft ca init
  weft ca init --dir ~/weft-ca`,
		Args: noArgs,
	}
	dir := cmd.Flags().String("dir", ".", "`folder` for the two files")
	cmd.RunE = func(*cobra.Command, []string) error {
		if *dir == "" {
			return usagef("--dir needs the name of a folder")
		}
		id, err := authority.Make(*dir)
		if err != nil {
			return err
		}
		key, public := filepath.Join(*dir, authority.KeyName), filepath.Join(*dir, authority.PublicName)
		if c.json {
			return c.printJSON(map[string]string{"id": id.String(), "key": key, "public": public})
		}
		_, err = fmt.Fprintf(c.out, `Made the authority %s.
  %s  signs certificates: keep it secret and off the nodes, and keep a copy
  %s  copy it to every node as /etc/weft/ca.pub, and set there: clusterCA: /etc/weft/ca.pub
Next, for each node: weft ca sign --ca %[2]s --node ID --out node.cert, with the ID that `+"`sudo weft id`"+` prints there.
`, id.Short(), printable(key), printable(public))
		return err
	}
	return cmd
}

func (c *cli) caSignCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "sign",
		Short: "Make the certificate of a node",
		Long: `Make the certificate of a node. Its ID is what weft id prints there. With --cidr
the node may only claim blocks inside those; without, any.

The certificate is no secret. On the node it belongs in /var/lib/weft/node.cert,
or where nodeCert says.`,
		Example: `  weft ca sign --node kq3v...m7aa --out node2.cert
  weft ca sign --ca ~/weft-ca/ca.key --node kq3v...m7aa --cidr 10.244.0.0/20,fd00:10:244::/56
  weft ca sign --node $(ssh node2 sudo weft id) | ssh node2 sudo tee /var/lib/weft/node.cert`,
		Args: noArgs,
	}
	ca := cmd.Flags().String("ca", authority.KeyName, "`file` with the authority's key")
	node := cmd.Flags().String("node", "", "`ID` of the node")
	cidrs := cmd.Flags().StringSlice("cidr", nil, "blocks that the node may claim, as `CIDR,...`; any unless given")
	out := cmd.Flags().StringP("out", "o", "", "write the certificate to a new `file` instead of printing it")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		switch flags := cmd.Flags(); {
		case *node == "":
			return usagef("--node needs the ID of the node; `weft id` prints it there")
		case *ca == "":
			return usagef("--ca needs the name of the file %s that `weft ca init` made", authority.KeyName)
		case flags.Changed("out") && *out == "":
			return usagef("--out needs the name of a file, for instance node.cert")
		case flags.Changed("cidr") && len(*cidrs) == 0:
			return usagef("--cidr is empty; leave it out to allow any block")
		}
		cert, err := signed(*ca, *node, *cidrs)
		if err != nil {
			return err
		}
		return c.giveCert(cert, *out)
	}
	return cmd
}

func signed(ca, node string, blocks []string) (authority.CertFile, error) {
	var cidrs []netip.Prefix
	if len(blocks) > 0 {
		var err error
		if cidrs, err = config.ParseCIDRs(strings.Join(blocks, ",")); err != nil {
			return authority.CertFile{}, usagef("--cidr: %w", err)
		}
	}
	key, err := authority.LoadKey(ca)
	if err != nil {
		return authority.CertFile{}, err
	}
	return authority.Sign(key, node, cidrs)
}

// giveCert prints a certificate, or writes it where path is given.
func (c *cli) giveCert(cert authority.CertFile, path string) error {
	if path == "" {
		return c.printJSON(cert)
	}
	if err := cert.Write(path); err != nil {
		return err
	}
	if c.json {
		return c.printJSON(map[string]string{"node": cert.Node.String(), "path": path})
	}
	blocks := "any block"
	if len(cert.CIDRs) > 0 {
		blocks = "blocks inside " + list(cert.CIDRs, ", ")
	}
	_, err := fmt.Fprintf(c.out, "Wrote the certificate of node %s, for %s, to %s. Copy it to /var/lib/weft/node.cert there.\n",
		cert.Node.Short(), blocks, printable(path))
	return err
}
