package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/user"
	"strconv"
	"syscall"
	"time"
)

const (
	// queryTimeout bounds a question: the daemon answers from memory.
	queryTimeout = 5 * time.Second
	// doctorTimeout bounds a diagnosis, for which the daemon asks the kernel.
	doctorTimeout = 20 * time.Second
	// leaveTimeout bounds a departure, one's own or another's, which the daemon has to tell its peers.
	leaveTimeout = 30 * time.Second
	// maxAnswer holds the routes of 100,000 peers.
	maxAnswer = 64 << 20
)

// Client asks the daemon behind one socket. It may be used by several goroutines. Errors are one line for the
// user, and end with what to do.
type Client struct {
	socket string
	http   *http.Client
}

// NewClient returns a client for the socket at path. Nothing is dialled before the first question. Close ends
// its idle connections.
func NewClient(path string) *Client {
	dialer := &net.Dialer{Timeout: queryTimeout}
	return &Client{
		socket: path,
		http: &http.Client{Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return dialer.DialContext(ctx, "unix", path)
			},
			MaxIdleConns: 1,
		}},
	}
}

// Close ends idle connections. The client may be used again.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Status returns the state of the daemon.
func (c *Client) Status(ctx context.Context) (Status, error) {
	return ask[Status](ctx, c, http.MethodGet, pathStatus, queryTimeout)
}

// Peers returns the other nodes.
func (c *Client) Peers(ctx context.Context) (PeerList, error) {
	return ask[PeerList](ctx, c, http.MethodGet, pathPeers, queryTimeout)
}

// Routes returns the routing table of the overlay.
func (c *Client) Routes(ctx context.Context) (RouteList, error) {
	return ask[RouteList](ctx, c, http.MethodGet, pathRoutes, queryTimeout)
}

// Drops returns the packet accounts.
func (c *Client) Drops(ctx context.Context) (Drops, error) {
	return ask[Drops](ctx, c, http.MethodGet, pathDrops, queryTimeout)
}

// Ping has the daemon send one probe to a peer, given by its name, its ID or the start of its ID, and returns when
// that is answered or lost.
func (c *Client) Ping(ctx context.Context, node string) (Ping, error) {
	return ask[Ping](ctx, c, http.MethodGet, pathPing+"?"+url.Values{"node": {node}}.Encode(), queryTimeout)
}

// Doctor has the daemon look for what is wrong.
func (c *Client) Doctor(ctx context.Context) (Diagnosis, error) {
	return ask[Diagnosis](ctx, c, http.MethodGet, pathDoctor, doctorTimeout)
}

// Leave has the daemon announce its departure to the other nodes, and returns when that is done.
func (c *Client) Leave(ctx context.Context) error {
	_, err := ask[struct{}](ctx, c, http.MethodPost, pathLeave, leaveTimeout)
	return err
}

// Down has the daemon end, and returns before it has.
func (c *Client) Down(ctx context.Context) error {
	_, err := ask[struct{}](ctx, c, http.MethodPost, pathDown, queryTimeout)
	return err
}

// Forget has the daemon tell the other nodes that one, given as for Ping, is gone for good.
func (c *Client) Forget(ctx context.Context, node string) (Forgotten, error) {
	return ask[Forgotten](ctx, c, http.MethodPost, pathForget+"?"+url.Values{"node": {node}}.Encode(), leaveTimeout)
}

// ask sends one request and decodes the answer.
func ask[T any](ctx context.Context, c *Client, method, path string, timeout time.Duration) (T, error) {
	var answer T
	body, err := c.fetch(ctx, method, path, timeout)
	if err != nil {
		return answer, err
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return answer, fmt.Errorf("no weftd answers on %s, something else does: is it the right socket? (%w)", c.socket, err)
	}
	return answer, nil
}

// fetch sends one request and returns the answer as it came.
func (c *Client) fetch(ctx context.Context, method, path string, timeout time.Duration) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, errNoAnswer)
	defer cancel()
	// The host is a formality: the transport dials the socket whatever it says.
	req, err := http.NewRequestWithContext(ctx, method, "http://weftd"+path, nil)
	if err != nil {
		return nil, fmt.Errorf("ask weftd for %s: %w", path, err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.explain(ctx, timeout, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return nil, c.explain(ctx, timeout, err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, c.refusal(resp.StatusCode, req.URL.Path, body)
	}
	if len(body) > maxAnswer {
		return nil, fmt.Errorf("weftd's answer on %s is larger than %d bytes", c.socket, maxAnswer)
	}
	return body, nil
}

var errNoAnswer = errors.New("no answer")

// ErrNotRunning begins the errors of a client whose socket nobody listens on.
var ErrNotRunning = errors.New("weftd is not running")

// explain says what a failure to talk to the daemon means to the user.
func (c *Client) explain(ctx context.Context, timeout time.Duration, err error) error {
	var wrapped *url.Error // repeats the formal address
	if errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	switch {
	case errors.Is(context.Cause(ctx), errNoAnswer):
		return fmt.Errorf("weftd: %w on %s within %s; see what it does with `journalctl -u weftd`", errNoAnswer, c.socket, timeout)
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%w (nothing listens on %s); start it with `systemctl start weftd` or `weftd --config /etc/weft/weft.yaml`", ErrNotRunning, c.socket)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("permission denied on %s; use sudo, or join the socket's group%s", c.socket, groupOf(c.socket))
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return fmt.Errorf("weftd hung up in the middle of an answer on %s; see why with `journalctl -u weftd`", c.socket)
	}
	return fmt.Errorf("no weftd answers on %s, something else does: is it the right socket? (%w)", c.socket, err)
}

// refusal turns an answer other than 200 into an error.
func (c *Client) refusal(status int, path string, body []byte) error {
	var answer failure
	if json.Unmarshal(body, &answer) != nil || answer.Error == "" {
		return fmt.Errorf("no weftd answers on %s, something else does: is it the right socket? (HTTP status %d for %s)", c.socket, status, path)
	}
	if status == http.StatusNotFound {
		return fmt.Errorf("this weftd does not know %s; weft and weftd are of different versions: compare `weft version` with `weftd version`", path)
	}
	return fmt.Errorf("weftd: %s", answer.Error)
}

// groupOf returns the group of a file in brackets, or "" where it cannot be told.
func groupOf(path string) string {
	info, err := os.Stat(path)
	if err != nil {
		return ""
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return ""
	}
	id := strconv.FormatUint(uint64(stat.Gid), 10)
	if group, err := user.LookupGroupId(id); err == nil {
		id = group.Name
	}
	return " (" + id + ")"
}
