package main

import (
	"github.com/spf13/cobra"

	"github.com/weft-net/weft/cmd/internal/control"
)

func (c *cli) metricsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "metrics",
		Short: "Print the metrics that Prometheus is given",
		Long: `Print the metrics of weftd in Prometheus' text format. Prometheus itself reads them
from an address, where metricsAddress of the configuration gives it one.`,
		Example: `  weft metrics
  weft metrics | grep ^weft_drops_total
  curl --unix-socket /run/weft/weft.sock http://weftd/metrics`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if c.json {
				return usagef("metrics are in Prometheus' text format; for JSON see `weft status`, `weft peers` and `weft drops`")
			}
			client := control.NewClient(c.socket)
			defer client.Close()
			text, err := client.Metrics(cmd.Context())
			if err != nil {
				return err
			}
			_, err = c.out.Write(text)
			return err
		},
	}
}
