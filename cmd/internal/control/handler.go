package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
)

// Backend answers the questions of the API. Its methods are called by any number of goroutines at once. The
// values they return are not changed afterwards.
type Backend interface {
	Status() Status
	Peers() PeerList
	Routes() RouteList
	Drops() Drops
	Segments() SegmentList
	// Ping sends one probe to the peer with this ID, one of Peers, and returns when it is answered or has been
	// lost, within 3 s. A probe that could not be sent is a lost one; an error says that none was tried.
	Ping(ctx context.Context, id string) (Ping, error)
	// Doctor looks for what is wrong on this node and on the ways to its peers, within 15 s.
	Doctor(ctx context.Context) (Diagnosis, error)
	// Bench measures what is carried to and from the peer with this ID, one of Peers, within 15 s. It calls show, from
	// one goroutine, with each step as it comes, and ends when show fails. One measurement is made at a time; the text of
	// its error is shown to the user.
	Bench(ctx context.Context, id string, show func(BenchStep) error) error
	// Capture calls show with packets that r selects as they pass, and how many more there were without room for them, until
	// ctx ends; once at first with none, when it has begun. It returns the error of show. The text of its own is shown to
	// the user.
	Capture(ctx context.Context, r CaptureRequest, show func(packets []CapturedPacket, skipped uint64) error) error
	// Trace follows a packet from source to destination, named as for Client.Trace, within 15 s. The text of its error is
	// shown to the user.
	Trace(ctx context.Context, source, destination string) (Trace, error)
	// Detach removes the device of a pod of this node, where that is in the network namespace with this inode number. It calls
	// gone, from its own goroutine, when nothing of the device is left to be seen, and returns when the kernel has freed it.
	Detach(netns uint64, device string, gone func()) error
	// Reload reads the configuration anew and applies what can change while the daemon runs. An error says, in a
	// line for each problem, why nothing has changed.
	Reload() (Reloaded, error)
	// Leave announces the departure of this node, and returns when that is done or ctx ends. The text of its
	// error is shown to the user.
	Leave(ctx context.Context) error
	// Down ends the daemon, with nothing left of it in the kernel, and is no departure. It returns at once.
	Down() error
	// Forget tells all nodes that the one with this ID, one of Peers, is gone for good, so that its blocks are free,
	// and returns when that is told or ctx ends. The text of its error is shown to the user.
	Forget(ctx context.Context, id string) (Forgotten, error)
	// Keys are the gossip keys; an error says why there are none. RotateKey makes another, RemoveKey removes the
	// one of that fingerprint, and ExportKey returns the one that new nodes need. The text of their errors is
	// shown to the user.
	Keys() (KeyList, error)
	RotateKey() (KeyList, error)
	RemoveKey(fingerprint string, force bool) (KeyList, error)
	ExportKey() (GossipKey, error)
}

// failure is an answer other than 200.
type failure struct {
	Error string `json:"error"`
}

// endpoint is one path of the API with the one method it takes.
type endpoint struct {
	method string
	answer func(*http.Request) (any, error)
}

// requestError is an error of what was asked, not of the daemon.
type requestError struct{ error }

// Handler serves the API for b. The http.Server around it sets the timeouts; one of 30 s for writing leaves
// POST /v1/leave the time it may take.
func Handler(b Backend) http.Handler {
	mux := http.NewServeMux()
	for path, e := range map[string]endpoint{
		pathStatus:   {http.MethodGet, func(*http.Request) (any, error) { return b.Status().complete(), nil }},
		pathPeers:    {http.MethodGet, func(*http.Request) (any, error) { return b.Peers().complete(), nil }},
		pathRoutes:   {http.MethodGet, func(*http.Request) (any, error) { return b.Routes().complete(), nil }},
		pathDrops:    {http.MethodGet, func(*http.Request) (any, error) { return b.Drops().complete(), nil }},
		pathSegments: {http.MethodGet, func(*http.Request) (any, error) { return b.Segments().complete(), nil }},
		pathPing:     {http.MethodGet, func(r *http.Request) (any, error) { return ping(r, b) }},
		pathDoctor: {http.MethodGet, func(r *http.Request) (any, error) {
			d, err := b.Doctor(r.Context())
			return d.complete(), err
		}},
		pathLeave:  {http.MethodPost, func(r *http.Request) (any, error) { return struct{}{}, b.Leave(r.Context()) }},
		pathDown:   {http.MethodPost, func(*http.Request) (any, error) { return struct{}{}, b.Down() }},
		pathForget: {http.MethodPost, func(r *http.Request) (any, error) { return forget(r, b) }},
		pathTrace:  {http.MethodPost, func(r *http.Request) (any, error) { return trace(r, b) }},
		pathReload: {http.MethodPost, func(*http.Request) (any, error) {
			changes, err := b.Reload()
			return changes.complete(), err
		}},

		pathKeys:       {http.MethodGet, func(*http.Request) (any, error) { return keyList(b.Keys()) }},
		pathKeysRotate: {http.MethodPost, func(*http.Request) (any, error) { return keyList(b.RotateKey()) }},
		pathKeysRemove: {http.MethodPost, func(r *http.Request) (any, error) { return removeKey(r, b) }},
		pathKeysExport: {http.MethodGet, func(*http.Request) (any, error) { return b.ExportKey() }},
	} {
		mux.Handle(path, e)
	}
	mux.Handle(pathBench, bench{b})
	mux.Handle(pathDetach, detach{b})
	mux.Handle(pathCapture, capture{b, captureStall})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		reply(w, http.StatusNotFound, failure{fmt.Sprintf("no such path: %s", r.URL.Path)})
	})
	return mux
}

// ping finds the peer that the request names, so that a backend knows nothing of how people call nodes.
func ping(r *http.Request, b Backend) (any, error) {
	peer, err := b.Peers().Find(r.URL.Query().Get("node"))
	if err != nil {
		return nil, requestError{err}
	}
	return b.Ping(r.Context(), peer.ID)
}

// forget finds the peer as ping does, and refuses one that is there.
func forget(r *http.Request, b Backend) (any, error) {
	peer, err := b.Peers().Find(r.URL.Query().Get("node"))
	if err == nil {
		err = peer.Forgettable()
	}
	if err != nil {
		return nil, requestError{err}
	}
	f, err := b.Forget(r.Context(), peer.ID)
	return f.complete(), err
}

func (e endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !takes(w, r, e.method) {
		return
	}
	answer, err := e.answer(r)
	respond(w, r, answer, err)
}

// takes says whether r is of that method, and answers what is not.
func takes(w http.ResponseWriter, r *http.Request, method string) bool {
	if r.Method != method {
		w.Header().Set("Allow", method)
		reply(w, http.StatusMethodNotAllowed, failure{fmt.Sprintf("%s takes %s, not %s", r.URL.Path, method, r.Method)})
	}
	return r.Method == method
}

// respond writes the answer, or what the error means to who asked.
func respond(w http.ResponseWriter, r *http.Request, answer any, err error) {
	var wrong requestError
	switch {
	case errors.Is(err, context.Canceled) && r.Context().Err() != nil: // the client has gone
	case errors.As(err, &wrong):
		reply(w, http.StatusBadRequest, failure{err.Error()})
	case err != nil:
		reply(w, http.StatusInternalServerError, failure{err.Error()})
	default:
		reply(w, http.StatusOK, answer)
	}
}

// reply writes v. An error of writing means that the client has gone, and nobody is left to be told.
func reply(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		status, body = http.StatusInternalServerError, []byte(`{"error":"the answer cannot be put in JSON"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(append(body, '\n'))
}
