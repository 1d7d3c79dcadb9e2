package main

import (
	"errors"
	"strings"
	"testing"

	"github.com/weft-net/weft/cmd/internal/control"
)

func TestReload(t *testing.T) {
	changed := control.Reloaded{
		Applied: []control.KeyChange{{Key: "join", From: "", To: "192.0.2.1"}},
		Waiting: []control.KeyChange{{Key: "dataPort", From: "8285", To: "8286"}},
	}
	for _, c := range []struct {
		name     string
		reloaded control.Reloaded
		err      error
		args     []string
		want     result
	}{
		{"nothing", control.Reloaded{}, nil, nil, result{out: "nothing has changed\n"}},
		{"both", changed, nil, nil, result{out: "applied         join: unset -> 192.0.2.1\nneeds a restart dataPort: 8285 -> 8286\nRestart weftd to apply the rest: systemctl restart weftd\n"}},
		{"mistake", control.Reloaded{}, errors.New("weft.yaml:3: mtu: too small"), nil, result{status: 1, errOut: "weft: weftd: weft.yaml:3: mtu: too small\n"}},
		{"JSON", control.Reloaded{}, nil, []string{"--json"}, result{out: "{\n  \"applied\": [],\n  \"waiting\": []\n}\n"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			socket, _ := daemon(t, &backend{reloaded: c.reloaded, reloadErr: c.err})
			if got := run(t, socket, append([]string{"reload"}, c.args...)...); got != c.want {
				t.Errorf("got %+v\nwant %+v", got, c.want)
			}
		})
	}
	if got := run(t, "/nonexistent/s", "reload"); got.status != 1 || !strings.Contains(got.errOut, "not running") {
		t.Errorf("without weftd: %+v", got)
	}
}
