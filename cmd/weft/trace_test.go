package main

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-net/weft/cmd/internal/control"
)

func TestTrace(t *testing.T) {
	ends := control.Trace{
		Source:      control.TraceEnd{Address: netip.MustParseAddr("10.244.1.10"), Name: "web", Node: "node1"},
		Destination: control.TraceEnd{Address: netip.MustParseAddr("10.244.2.0"), Name: "node2", Node: "node2"},
		Mode:        "udp", MTU: 1450,
	}
	arrives, fails := ends, ends
	arrives.Arrives, arrives.Verdict = control.TraceOK, "arrives"
	arrives.Steps = []control.TraceStep{
		{Node: "node1", What: "owner", Outcome: control.TraceOK, Detail: "node2 has the block", Fix: "nothing"},
		{Node: "node1", What: "way", Outcome: control.TraceUnknown, Detail: "udp", Fix: "open the port"},
		{Node: "node2", What: "weftd, receiving", Outcome: control.TraceOK, Detail: "saw it\x1b[2J"},
	}
	fails.Arrives, fails.Verdict = control.TraceFails, "ends"
	fails.Steps = []control.TraceStep{{Node: "node1", What: "route", Outcome: control.TraceFails, Detail: "none", Fix: "make one"}}
	for _, test := range []struct {
		answer control.Trace
		err    error
		want   result
	}{
		{arrives, nil, result{0, `10.244.1.10 (web, on node1) -> 10.244.2.0 (on node2)
node1
  ok    owner: node2 has the block
  ?     way: udp
         -> open the port
node2
  ok    weftd, receiving: saw it�[2J
ok    arrives
`, ""}},
		{fails, nil, result{1, `10.244.1.10 (web, on node1) -> 10.244.2.0 (on node2)
node1
  FAILS route: none
         -> make one
FAILS ends
`, ""}},
		{control.Trace{}, errors.New("no pod of this node is called web"), result{1, "", "weft: weftd: no pod of this node is called web\n"}},
	} {
		socket, _ := daemon(t, &backend{traced: func(source, destination string) (control.Trace, error) {
			if source != "web" || destination != "node2" {
				t.Errorf("traced from %q to %q", source, destination)
			}
			return test.answer, test.err
		}})
		if diff := cmp.Diff(test.want, run(t, socket, "trace", "web", "node2"), cmp.AllowUnexported(result{})); diff != "" {
			t.Errorf("-want +got\n%s", diff)
		}
		asJSON := run(t, socket, "trace", "web", "node2", "--json")
		if asJSON.status != test.want.status || test.err == nil && !strings.Contains(asJSON.out, `"arrives": "`+test.answer.Arrives+`"`) {
			t.Errorf("as JSON: %+v", asJSON)
		}
	}
	if got := run(t, "/nowhere", "trace", "web"); got != (result{2, "", "weft: weft trace takes a source and a destination, but got 1; for instance `weft trace web 10.244.2.20`\n"}) {
		t.Errorf("%+v", got)
	}
}
