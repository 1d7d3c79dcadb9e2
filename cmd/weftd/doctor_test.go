package main

import (
	"testing"

	"github.com/weft-net/weft/cmd/internal/doctor"
	"github.com/weft-net/weft/dataplane/host"
)

// The doctor looks for what host marks.
func TestDoctorKnowsTheMarks(t *testing.T) {
	if doctor.RouteProtocol != host.RouteProtocol || doctor.LinkAlias != host.Alias {
		t.Errorf("it looks for protocol %d and alias %s, and what is made has %d and %s",
			doctor.RouteProtocol, doctor.LinkAlias, host.RouteProtocol, host.Alias)
	}
}
