package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/weft-net/weft/cmd/internal/handover"
	"github.com/weft-net/weft/cmd/internal/version"
)

const (
	// pathTakeover is where a process asks, on the control socket, for what another one runs by. What
	// follows the answer 101 is package handover's.
	pathTakeover = "/v1/takeover"

	upgrade = "weft-handover"

	// answerPatience is how long the weftd that runs may take to answer.
	answerPatience = 5 * time.Second
)

// takeOver asks the weftd that runs for its TUN and sockets. Whatever this process can find
// wrong without them it has found by then.
func (m *machine) takeOver() error {
	conn, err := m.dialTakeover()
	if err != nil {
		return fmt.Errorf("--takeover: ask the weftd at %s to hand over: %w", m.config.Socket, err)
	}
	taker, err := handover.Ask(conn, version.String())
	if err != nil {
		return err
	}
	s := &m.succession
	m.keep(func() error { return ignoreClosed(taker.Close()) })
	m.log.Info("taking over", "from", taker.Giver)
	if s.left, err = taker.Take(); err != nil {
		return err
	}
	s.from, s.taker, s.stays = fromWeftd, taker, true
	return nil
}

func (m *machine) dialTakeover() (conn *net.UnixConn, err error) {
	conn, err = net.DialUnix("unix", nil, &net.UnixAddr{Name: m.config.Socket, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("%w: is there one? Else start weftd without --takeover", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, conn.Close())
		}
	}()
	if err := conn.SetDeadline(time.Now().Add(answerPatience)); err != nil {
		return conn, err
	}
	if _, err := fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: weftd\r\nConnection: Upgrade\r\nUpgrade: %s\r\nContent-Length: 0\r\n\r\n", pathTakeover, upgrade); err != nil {
		return conn, err
	}
	// Behind the answer nothing comes until this side speaks, so that nothing is read too much.
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return conn, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusSwitchingProtocols {
		var failure struct {
			Error string `json:"error"`
		}
		if text, err := io.ReadAll(io.LimitReader(answer.Body, 4<<10)); err == nil {
			_ = json.Unmarshal(text, &failure) // else there is the status
		}
		return conn, fmt.Errorf("it answers %s %s: restart weftd instead", answer.Status, failure.Error)
	}
	return conn, conn.SetDeadline(time.Time{})
}

// beTaken answers a process that wants to take over, and returns when that is ready to or has
// failed. This process goes on with everything until then.
func (m *machine) beTaken(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Upgrade") != upgrade {
		http.Error(w, `{"error":"this is for weftd --takeover"}`, http.StatusBadRequest)
		return
	}
	raw, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		m.log.Error("a process wanted to take over", "reason", err)
		return
	}
	conn, ok := raw.(*net.UnixConn)
	if !ok {
		raw.Close()
		return
	}
	_, err = fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", upgrade)
	if err := errors.Join(err, conn.SetDeadline(time.Time{})); err != nil {
		conn.Close()
		return
	}
	giver, err := handover.Accept(conn, version.String(), m.mayNotGive())
	if err != nil {
		m.log.Warn("no takeover", "reason", err)
		return
	}
	if !m.succession.giving.CompareAndSwap(false, true) {
		giver.Close()
		return
	}
	m.log.Info("handing over", "to", giver.Taker)
	m.succession.asked <- giver
}

// mayNotGive is why this process hands over to nobody, nil otherwise.
func (m *machine) mayNotGive() error {
	switch {
	case m.succession.store != nil:
		return errors.New("systemd runs this weftd: use `systemctl restart weftd`, which loses no packet either")
	case m.succession.giving.Load():
		return errors.New("another process is taking over already")
	case !m.shown.Load().joined.Load():
		return errors.New("this weftd carries no packets yet: try again when `weft status` says ready, or stop it and start anew")
	}
	return nil
}
