package control

import (
	"context"
	"net/http"
)

// Metrics returns the daemon's metrics in Prometheus' text format.
func (c *Client) Metrics(ctx context.Context) ([]byte, error) {
	return c.fetch(ctx, http.MethodGet, "/metrics", queryTimeout)
}
