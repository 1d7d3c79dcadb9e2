package control

import (
	"fmt"
	"net/http"
	"strconv"
)

const pathDetach = "/v1/detach"

// detach serves /v1/detach, which weft-cni asks for in a few lines of its own (package node). It answers as soon as the device is gone, and goes on
// until it is freed.
type detach struct{ Backend }

func (d detach) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !takes(w, r, http.MethodPost) {
		return
	}
	query := r.URL.Query()
	netns, err := strconv.ParseUint(query.Get("netns"), 10, 64)
	if err != nil {
		respond(w, r, nil, requestError{fmt.Errorf("netns %q is not the inode number of a network namespace", query.Get("netns"))})
		return
	}
	answered := false
	err = d.Detach(netns, query.Get("device"), func() {
		answered = true
		reply(w, http.StatusOK, struct{}{})
		_ = http.NewResponseController(w).Flush() // a client that has gone needs no telling
	})
	if !answered {
		respond(w, r, struct{}{}, err)
	}
}
