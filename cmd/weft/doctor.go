package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/weft-net/weft/cmd/internal/config"
	"github.com/weft-net/weft/cmd/internal/control"
	"github.com/weft-net/weft/cmd/internal/doctor"
)

func (c *cli) doctorCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Find what is wrong, and what to do about it",
		Long: `Look for what is wrong on this node and on the ways to its peers, and say what to
do about each finding: MTUs, offloads, rp_filter and forwarding, firewalls, ports,
the choice of the underlay, what weft and other pod networks have left, other
programs that manage interfaces, the clock. It changes nothing.

A problem is something that does not work; a warning is something that will not,
or not as well as it should. The code of a finding stays the same, for programs.

weftd does the looking. Where it does not run, weft looks at what can be seen
without it, as the configuration has it.

The exit status is 1 if there is a problem.`,
		Example: `  weft doctor
  weft doctor && echo all is well
  weft doctor --json | jq -r '.findings[] | .code + " " + .what + ": " + .fix'`,
		Args: noArgs,
	}
	path := cmd.Flags().String("config", config.DefaultPath, "configuration `file`, read where weftd does not run")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		client := control.NewClient(c.socket)
		defer client.Close()
		d, err := client.Doctor(cmd.Context())
		if errors.Is(err, control.ErrNotRunning) {
			d, err = c.diagnose(err, *path), nil
		}
		if err != nil {
			return err
		}
		if c.json {
			err = c.printJSON(d)
		} else {
			renderDoctor(c.out, c.style, d)
		}
		if err == nil && slices.ContainsFunc(d.Findings, isProblem) {
			return errSaid
		}
		return err
	}
	return cmd
}

// diagnose looks at what can be seen without weftd; down says that it does not run.
func (c *cli) diagnose(down error, path string) control.Diagnosis {
	var x doctor.Examination
	what, fix, _ := strings.Cut(down.Error(), "; ")
	x.Find(control.LevelProblem, "W001", what, fix+"; `journalctl -u weftd` says why it ended")
	x.Looked("the configuration")
	n, problems := configured(path, c.environ)
	for _, p := range problems {
		x.Find(control.LevelProblem, "W002", p.Error(), "correct it; `weftd config check` says whether all is well")
	}
	x.Add(c.examine(n))
	return x.Diagnosis
}

// configured is what weftd would be here, by its file and the environment. Where these make no sense little is known.
func configured(path string, environ []string) (n doctor.Node, problems []error) {
	c, err := loadConfig(path, environ)
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return n, joined.Unwrap()
	}
	if err != nil {
		return n, []error{err}
	}
	return doctor.Node{
		Tun: c.Tun, MTU: c.MTU, Underlay: c.Underlay.Interface, Named: c.Underlay != config.Underlay{},
		PodNetworks: c.PodNetworks, PodCIDRs: c.PodCIDRs, Bridge: c.CNIWiring == config.WiringBridge, CNIConfDir: c.CNIConfDir,
		Ports: []doctor.Port{
			{Protocol: "udp", Number: c.DataPort, Key: "dataPort"}, {Protocol: "udp", Number: c.VXLANPort, Key: "vxlanPort"},
			{Protocol: "udp", Number: c.GossipPort, Key: "gossipPort"}, {Protocol: "tcp", Number: c.GossipPort, Key: "gossipPort"},
		},
	}, nil
}

// isProblem says whether f is to end in a failure. What a later weftd may call worse than a warning is one.
func isProblem(f control.Finding) bool { return f.Level != control.LevelWarning }

// loadConfig reads weftd's configuration from a file and the environment.
func loadConfig(path string, environ []string) (*config.Config, error) {
	loader := config.NewLoader("localhost") // a name does not matter here
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	loader.BindFlags(flags)
	if path != config.DefaultPath { // which may be absent
		if err := flags.Set("config", path); err != nil {
			return nil, err
		}
	}
	return loader.Load(environ)
}

// renderDoctor shows the problems first.
func renderDoctor(w io.Writer, st style, d control.Diagnosis) {
	for _, problems := range []bool{true, false} {
		for _, f := range d.Findings {
			if isProblem(f) != problems {
				continue
			}
			c := yellow
			if problems {
				c = red
			}
			head := strings.TrimSpace(f.Level + " " + f.Code)
			fmt.Fprintf(w, "%s: %s\n", st.paint(c, printable(head)), printable(f.What))
			if f.Fix != "" {
				fmt.Fprintf(w, "  fix: %s\n", printable(f.Fix))
			}
		}
	}
	if len(d.Findings) == 0 {
		fmt.Fprintln(w, st.paint(green, "Nothing found that is wrong."))
	}
	if len(d.Checked) > 0 {
		fmt.Fprintf(w, "Checked: %s.\n", printable(strings.Join(d.Checked, ", ")))
	}
}
