package main

import (
	"net/http"
	"strings"

	"github.com/weft-net/weft/cmd/internal/config"
	"github.com/weft-net/weft/cmd/internal/page"
)

// pathPage is where the control socket has the status page.
const pathPage = "/page/"

// openPage takes the address of the status page, where it has one of its own.
func (m *machine) openPage() (err error) {
	switch at := m.config.Page; at {
	case "", config.PageSocket:
		return nil
	default:
		if m.paged, err = m.listen("page", at); err != nil {
			return err
		}
		m.log.Info("the status page is served", "at", "http://"+m.paged.Addr().String()+"/")
		return nil
	}
}

// onSocket is what the control socket answers of all that current does: everything to programs, and
// to browsers the status page, where the configuration has it there.
func (m *machine) onSocket(current http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", page.Programs(current))
	if m.config.Page == config.PageSocket {
		mux.Handle(pathPage, http.StripPrefix(strings.TrimSuffix(pathPage, "/"), page.Handler(current)))
	}
	return mux
}
