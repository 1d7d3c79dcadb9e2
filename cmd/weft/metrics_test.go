package main

import (
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"
)

func TestMetrics(t *testing.T) {
	const text = "# TYPE weft_workers gauge\nweft_workers 2\n"
	socket := filepath.Join(t.TempDir(), "weft.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet || r.URL.Path != "/metrics" {
			t.Errorf("asked for %s %s", r.Method, r.URL.Path)
		}
		w.Write([]byte(text))
	}))
	server.Listener.Close()
	server.Listener = l
	server.Start()
	t.Cleanup(server.Close)
	if got := run(t, socket, "metrics"); got != (result{0, text, ""}) {
		t.Errorf("got %+v", got)
	}
}
