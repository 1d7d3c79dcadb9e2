// Package page is the status page: a look at a node and its peers in a browser, live and read-only.
//
// It is one HTML file, one style sheet and a few script modules, all embedded. They ask for v1/status, v1/peers and
// v1/drops of the control API each second, beside the page, and keeps what rates and charts are made of itself.
package page

import (
	"bytes"
	"embed"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"time"
)

// Immutable.
//
//go:embed index.html page.css page.js text.js rates.js map.js table.js
var files embed.FS

const script = "text/javascript; charset=utf-8"

// Immutable.
var types = map[string]string{
	"index.html": "text/html; charset=utf-8",
	"page.css":   "text/css; charset=utf-8",
	"page.js":    script,
	"text.js":    script,
	"rates.js":   script,
	"map.js":     script,
	"table.js":   script,
}

// Handler serves the page at /, and of api, the control API, these to its script: /v1/status, /v1/peers and
// /v1/drops. Nothing else of api is reachable through it, and nothing but GET and HEAD. It may be mounted below
// any path that ends in a slash, with http.StripPrefix.
//
// Who may connect may look: there is no password. What keeps out the other pages that a user's browser has open is
// Local, and that answers are for this origin alone (Cross-Origin-Resource-Policy, and no CORS).
func Handler(api http.Handler) http.Handler {
	mux := http.NewServeMux()
	for name, contentType := range types {
		path := "/" + name
		if name == "index.html" {
			path = "/{$}"
		}
		mux.Handle("GET "+path, file(name, contentType))
	}
	for _, path := range []string{"/v1/status", "/v1/peers", "/v1/drops"} {
		mux.Handle("GET "+path, answer(api))
	}
	return Local(secured(mux))
}

// file serves an embedded file.
func file(name, contentType string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := files.ReadFile(name)
		if err != nil { // of a name in types that is not embedded
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", contentType)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
	})
}

// answer passes a question on to api, which knows no HEAD: net/http leaves out the body. A page of another origin
// has no answer that it could time, or include as a script.
func answer(api http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if site := r.Header.Get("Sec-Fetch-Site"); site != "" && site != "same-origin" && site != "none" {
			http.Error(w, "this is for the status page only", http.StatusForbidden)
			return
		}
		r = r.Clone(r.Context())
		r.Method = http.MethodGet
		api.ServeHTTP(w, r)
	})
}

// secured sets what has a browser keep to this page: nothing from elsewhere, nothing inline, no frame around it.
func secured(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := w.Header()
		header.Set("Content-Security-Policy", "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
		header.Set("Cross-Origin-Opener-Policy", "same-origin")
		header.Set("Cross-Origin-Resource-Policy", "same-origin")
		header.Set("Referrer-Policy", "no-referrer")
		header.Set("X-Content-Type-Options", "nosniff")
		header.Set("Cache-Control", "no-store") // the next version's script is for the next version's answers
		h.ServeHTTP(w, r)
	})
}

// Local passes on to h what is addressed to this machine: with a Host header that is a loopback address, localhost
// or weftd, which is what package control's client says. A web page can have its own name resolve to a loopback
// address, and then ask in that name whatever listens there (DNS rebinding), but not under one of these.
func Local(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !local(r.Host) {
			http.Error(w, fmt.Sprintf("weftd answers to localhost and loopback addresses, not to %q", r.Host), http.StatusForbidden)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// local says whether host, with or without a port, is a name of this machine that no DNS server has a say in. Of the
// port nothing is asked: it may be that of a tunnel.
func local(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	} else if len(host) > 2 && host[0] == '[' && host[len(host)-1] == ']' {
		host = host[1 : len(host)-1]
	}
	switch host {
	case "", "localhost", "weftd": // "" is HTTP/1.0's, which no browser speaks
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}

// Programs passes on to h, the control API, what no browser sent. A browser that reaches the API's socket, over an
// SSH tunnel for instance, would have it answer to every web page that is open in it, and /v1/leave takes a POST
// from anywhere.
func Programs(h http.Handler) http.Handler {
	return Local(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Origin") != "" || r.Header.Get("Sec-Fetch-Site") != "" {
			http.Error(w, "the control API is not for browsers; the status page is at /page/, with `page: socket`", http.StatusForbidden)
			return
		}
		h.ServeHTTP(w, r)
	}))
}
