package control

import (
	"context"
	"net/http"
)

const pathReload = "/v1/reload"

// Reloaded is the answer to /v1/reload: the keys whose values are other than before, by what becomes of them.
type Reloaded struct {
	Applied []KeyChange `json:"applied"` // in force
	Waiting []KeyChange `json:"waiting"` // for a restart
}

// KeyChange is a key of the configuration with another value than before, both as in the file.
type KeyChange struct {
	Key  string `json:"key"`
	From string `json:"from"`
	To   string `json:"to"`
}

func (r Reloaded) complete() Reloaded {
	r.Applied, r.Waiting = list(r.Applied), list(r.Waiting)
	return r
}

// Reload has the daemon read its configuration anew. An error means that nothing has changed.
func (c *Client) Reload(ctx context.Context) (Reloaded, error) {
	return ask[Reloaded](ctx, c, http.MethodPost, pathReload, queryTimeout)
}
