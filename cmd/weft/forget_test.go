package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/cmd/internal/control"
)

// forgetting returns a daemon that forgets, and what it was asked to.
func forgetting(t *testing.T, fails error) (socket string, asked *[]string) {
	t.Helper()
	asked = new([]string)
	socket, _ = daemon(t, &backend{forget: func(id string) (control.Forgotten, error) {
		*asked = append(*asked, id)
		for _, p := range samplePeers().Peers {
			if p.ID == id {
				return control.Forgotten{Node: control.Node{ID: id, Name: p.Name}, PodCIDRs: p.PodCIDRs}, fails
			}
		}
		return control.Forgotten{}, errors.New("no such node")
	}})
	return socket, asked
}

// answering runs weft with a person at the terminal who types answer, and then ends the input.
func answering(t *testing.T, ctx context.Context, socket, answer string, args ...string) result {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if ctx.Err() == nil && answer != "" {
		if _, err := w.WriteString(answer); err != nil {
			t.Fatal(err)
		}
	}
	if answer != "" {
		w.Close()
	}
	var out, errOut bytes.Buffer
	c := &cli{
		out: &out, errOut: &errOut, socket: socket, now: func() time.Time { return now },
		ask: func() (*os.File, error) { return r, nil },
	}
	return result{c.run(ctx, args), out.String(), errOut.String()}
}

const forgetQuestionText = "Forget node4 (cccccccc, refused), and free 10.244.2.0/24? [y/N] "

func TestForget(t *testing.T) {
	for answer, done := range map[string]bool{"y\n": true, "Yes \n": true, "yes": true, "n\n": false, "\n": false, "yess\n": false, "yes" + strings.Repeat(" ", 2000) + "\n": true} {
		socket, asked := forgetting(t, nil)
		want := result{1, "", forgetQuestionText + "Nothing was done.\n"}
		if done {
			want = result{0, "node4 is forgotten. Free again: 10.244.2.0/24.\n", forgetQuestionText}
		}
		if got := answering(t, t.Context(), socket, answer, "forget", "node4"); got != want || (len(*asked) == 1) != done {
			t.Errorf("%q: got %+v, asked for %q; want %+v", answer, got, *asked, want)
		}
	}
	socket, asked := forgetting(t, nil)
	if got := run(t, socket, "forget", "cccccccc", "--yes"); got != (result{0, "node4 is forgotten. Free again: 10.244.2.0/24.\n", ""}) || len(*asked) != 1 || (*asked)[0] != idC {
		t.Errorf("--yes: got %+v, asked for %q", got, *asked)
	}
	want := `{
  "node": {
    "id": "` + idC + `",
    "name": "node4"
  },
  "podCIDRs": [
    "10.244.2.0/24"
  ]
}
`
	if got := run(t, socket, "forget", "node4", "-y", "--json"); got != (result{0, want, ""}) {
		t.Errorf("--json: got %+v", got)
	}
}

func TestForgetRefuses(t *testing.T) {
	socket, asked := forgetting(t, nil)
	for args, want := range map[string]result{
		"forget node2 --yes":  {1, "", "weft: node2 is up, and would only be back at once; run `weft leave` there, or stop its weftd and ask again\n"},
		"forget linux1 --yes": {1, "", "weft: linux1 is a static peer, which no gossip knows of; remove it from the configuration\n"},
		"forget node9 --yes":  {1, "", "weft: no other node is called \"node9\"; did you mean node4?\n"},
	} {
		if got := run(t, socket, strings.Fields(args)...); got != want {
			t.Errorf("weft %s: got %+v, want %+v", args, got, want)
		}
	}
	noTerminal := func() (*os.File, error) { return nil, os.ErrNotExist }
	var out, errOut bytes.Buffer
	c := &cli{out: &out, errOut: &errOut, socket: socket, now: time.Now, ask: noTerminal}
	if status := c.run(t.Context(), []string{"forget", "node4"}); status != 2 || errOut.String() != "weft: there is no terminal to ask on; give --yes\n" {
		t.Errorf("without a terminal: %d, %q", status, errOut.String())
	}
	if len(*asked) != 0 {
		t.Errorf("and forgot %q all the same", *asked)
	}
	socket, _ = forgetting(t, errors.New("is alive\x1b[2J"))
	if got := run(t, socket, "forget", "node4", "--yes"); got != (result{1, "", "weft: weftd: is alive\ufffd[2J\n"}) {
		t.Errorf("got %+v", got)
	}
}

// TestForgetInterrupted has Ctrl-C be the answer, with nothing typed.
func TestForgetInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	socket, asked := forgetting(t, nil)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	var out bytes.Buffer
	errOut := &frames{after: cancel} // once the question is there
	c := &cli{out: &out, errOut: errOut, socket: socket, now: func() time.Time { return now }, ask: func() (*os.File, error) { return r, nil }}
	status := c.run(ctx, []string{"forget", "node4"})
	if status != 1 || errOut.String() != forgetQuestionText+"\nweft: interrupted\n" || len(*asked) != 0 {
		t.Errorf("status %d, %q, asked for %q", status, errOut.String(), *asked)
	}
}
