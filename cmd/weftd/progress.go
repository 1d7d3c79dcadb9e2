package main

import (
	"fmt"
	"time"

	"github.com/weft-net/weft/cmd/internal/control"
)

// workerPatience is how long a worker may take for one turn, which takes milliseconds. On a
// machine that has far too much to do a thread waits for a CPU some 100 ms.
const workerPatience = 5 * time.Second

// progress is nil while the workers go on. It never waits: of a worker that is stuck it knows by
// two calls that are workerPatience apart, or more.
func (d *daemon) progress() error {
	if stuck := d.engine.Stuck(workerPatience); len(stuck) > 0 {
		return fmt.Errorf("workers %v of %d take no packets though they were woken, for at least %s: restart weftd, and please report it", stuck, len(d.device.Queues()), workerPatience)
	}
	return nil
}

// unready is nil while pods' packets are carried.
func (d *daemon) unready() error {
	s := d.Status()
	if s.State == control.StateReady {
		return nil
	}
	return fmt.Errorf("%s: %s", s.State, s.Reason)
}
