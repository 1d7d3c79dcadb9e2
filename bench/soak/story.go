//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
)

// soak is the whole of it: idle, abuse, and the account. When ctx ends, the abuse does, and what follows is done
// all the same.
func soak(ctx context.Context, c *cluster, p plan, rep *report) error {
	if err := c.start(ctx, p.patience); err != nil {
		return err
	}
	before, err := c.kernelStates()
	if err != nil {
		return err
	}
	fmt.Printf("idle for %s\n", p.idle)
	if rep.Idle, err = measureIdle(ctx, c, p); err != nil {
		return err
	}
	f, err := openFlows(ctx, c)
	if err != nil {
		return err
	}
	rep.begin(f)
	err = abuseAll(ctx, c, f, p, rep)
	rep.Messages, rep.Lost = f.messages(), f.lost()
	if err := errors.Join(err, f.close()); err != nil {
		return err
	}
	rep.Trends = trends(rep.Samples)

	ending := context.WithoutCancel(ctx)
	fmt.Println("abuse has ended: the account")
	if err := c.settleModes(ending, p.patience); err != nil {
		return err
	}
	if rep.Exchanges, err = exchanges(ending, c); err != nil {
		return err
	}
	// The guards of pods are looked at every 10 s.
	err = eventually(ctx, p.patience, func(context.Context) error {
		var errs []error
		for i, m := range c.members {
			errs = append(errs, m.difference(before[i]))
		}
		return errors.Join(errs...)
	})
	return errors.Join(err, c.panicked())
}

func (c *cluster) kernelStates() (states []map[string]int, err error) {
	for _, m := range c.members {
		state, err := m.kernelState()
		if err != nil {
			return nil, err
		}
		states = append(states, state)
	}
	return states, nil
}

// abuseAll abuses the nodes for the time that is planned; one that cannot go on ends all.
func abuseAll(ctx context.Context, c *cluster, f *flows, p plan, rep *report) error {
	ctx, cancel := context.WithTimeout(ctx, p.abuse)
	defer cancel()
	var running sync.WaitGroup
	var errs [5]error
	for i, do := range []func(context.Context) error{
		func(ctx context.Context) error { return abuseNodes(ctx, c, f, p, rep) },
		func(ctx context.Context) error { return loadNodes(ctx, c, p, rep) },
		func(ctx context.Context) error { return askNodes(ctx, c, rep) },
		func(ctx context.Context) error { return sampleNodes(ctx, c, p, rep) },
		func(ctx context.Context) error { return showProgress(ctx, f, p, rep) },
	} {
		running.Go(func() {
			if errs[i] = do(ctx); errs[i] != nil {
				cancel()
			}
		})
	}
	running.Wait()
	return errors.Join(errs[:]...)
}

// showProgress prints a line every now and then until ctx ends.
func showProgress(ctx context.Context, f *flows, p plan, rep *report) error {
	tick := time.NewTicker(p.progress)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			fmt.Println(rep.line(f))
		case <-ctx.Done():
			return nil
		}
	}
}

// panicked looks for what no daemon must ever write.
func (c *cluster) panicked() error {
	var errs []error
	for _, path := range c.logPaths() {
		data, err := os.ReadFile(path)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		log := string(data)
		for _, sign := range []string{"panic: ", "fatal error: ", "SIGSEGV", "goroutine 1 ["} {
			if at := strings.Index(log, sign); at >= 0 {
				errs = append(errs, fmt.Errorf("%s has %q", path, log[at:min(len(log), at+200)]))
				break
			}
		}
	}
	return errors.Join(errs...)
}
