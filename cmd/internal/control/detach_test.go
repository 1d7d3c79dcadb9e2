package control

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
)

func (b backend) Detach(netns uint64, device string, gone func()) error {
	return b.detach(netns, device, gone)
}

// TestDetach: the answer is there when the device is gone, and what comes behind does not change it.
func TestDetach(t *testing.T) {
	post := func(b backend, query string) (int, string) {
		t.Helper()
		server := httptest.NewServer(Handler(b))
		defer server.Close()
		resp, err := http.Post(server.URL+pathDetach+query, "", nil)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if err := errors.Join(err, resp.Body.Close()); err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(body)
	}
	refuse := func(says bool) backend {
		return backend{detach: func(netns uint64, device string, gone func()) error {
			if netns != 4026531840 || device != "weft0123456789a" {
				t.Errorf("asked for %s in %d", device, netns)
			}
			if says {
				gone()
			}
			return errors.New("the guard stays")
		}}
	}
	none := backend{detach: func(uint64, string, func()) error { return nil }}
	for _, c := range []struct {
		b     backend
		query string
		code  int
		body  string
	}{
		{none, "?device=weft0123456789a&netns=1", 200, "{}\n"},
		{refuse(true), "?device=weft0123456789a&netns=4026531840", 200, "{}\n"},
		{refuse(false), "?device=weft0123456789a&netns=4026531840", 500, `{"error":"the guard stays"}` + "\n"},
		{none, "?device=weft0123456789a", 400, `{"error":"netns \"\" is not the inode number of a network namespace"}` + "\n"},
		{none, "?device=weft0123456789a&netns=-1", 400, `{"error":"netns \"-1\" is not the inode number of a network namespace"}` + "\n"},
	} {
		if code, body := post(c.b, c.query); code != c.code || body != c.body {
			t.Errorf("%s: %d %s, want %d %s", c.query, code, body, c.code, c.body)
		}
	}
}
