//go:build linux

package topo

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// pollInterval is short beside what is waited for, a daemon or its peers, and long beside a
// look at it.
const pollInterval = 50 * time.Millisecond

// WaitUntil polls until ready returns nil. It gives up with ready's last error when that takes
// longer than patience, and with that of hopeless as soon as there is one.
func WaitUntil(ctx context.Context, patience time.Duration, ready func(context.Context) error, hopeless func() error) error {
	tooLong := fmt.Errorf("not within %s", patience)
	ctx, cancel := context.WithTimeoutCause(ctx, patience, tooLong)
	defer cancel()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		if err := hopeless(); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			if cause := context.Cause(ctx); !errors.Is(err, cause) {
				return fmt.Errorf("%w: %w", cause, err)
			}
			return err
		}
	}
}
