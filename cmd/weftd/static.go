package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"

	"github.com/weft-net/weft/cmd/internal/config"
	"github.com/weft-net/weft/membership/static"
)

// What the daemon lives on with.
const (
	troubleFile = "staticPeersFile is not taken, and what it said before stays in force"
	troubleBoth = "a static peer of staticPeersFile is left out"
)

// staticPeers are the nodes that do not run weft, at the moment. Any goroutine may call it;
// the peers are not to be changed.
func (d *daemon) staticPeers() []config.StaticPeer {
	if merged := d.statics.merged.Load(); merged != nil {
		return *merged
	}
	return d.current().StaticPeers
}

// statics are the static peers where staticPeersFile says a part of them. The zero value is
// ready, and has no such file.
type statics struct {
	log     *slog.Logger
	trouble *trouble
	file    *static.File

	mu     sync.Mutex // one merge at a time
	config *config.Config
	peers  []config.StaticPeer // the file's

	// merged are the configuration's and the file's, and not changed once they are stored;
	// nil where the file has not been taken yet.
	merged atomic.Pointer[[]config.StaticPeer]

	changed chan struct{} // capacity 1: merged is another; nil without a file
}

// open reads the file, if there is to be one, and begins to watch it. What is wrong with it
// keeps no daemon from its start: this node's pods need that, whoever else they reach.
func (s *statics) open(c *config.Config, log *slog.Logger, t *trouble) (err error) {
	if c.StaticPeersFile == "" {
		return nil
	}
	s.config, s.log, s.trouble, s.changed = c, log, t, make(chan struct{}, 1)
	if s.file, err = static.Open(c.StaticPeersFile, log, s.take); err != nil {
		return fmt.Errorf("staticPeersFile (%s): %w", c.Source("staticPeersFile"), err)
	}
	return nil
}

// close ends the watching, after run.
func (s *statics) close() error {
	if s.file == nil {
		return nil
	}
	return s.file.Close()
}

// run follows the file until ctx is done.
func (s *statics) run(ctx context.Context) error {
	if s.file == nil {
		return nil
	}
	return s.file.Run(ctx)
}

// take has the text of the file take effect, or says what is wrong with it.
func (s *statics) take(text []byte, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var peers []config.StaticPeer
	if err == nil {
		peers, err = s.config.ParseStaticPeersFile(text)
	}
	s.trouble.say(s.log, troubleFile, firstOf(err))
	if err != nil {
		return
	}
	s.peers = peers
	s.merge()
}

// reload has the staticPeers of c take effect with those of the file.
func (s *statics) reload(c *config.Config) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.merged.Load() != nil {
		s.config = c
		s.merge()
	}
}

// merge is called with mu held.
func (s *statics) merge() {
	merged, left := s.config.WithStaticPeers(s.peers)
	s.trouble.say(s.log, troubleBoth, firstOf(left))
	s.log.Info("static peers", "file", s.config.StaticPeersFile, "there", len(s.peers), "all", len(merged))
	s.merged.Store(&merged)
	token(s.changed)
}

// firstOf is the first of the errors that err joins, on one line, and how many more there are.
func firstOf(err error) error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return err
	}
	all := joined.Unwrap()
	if len(all) == 1 {
		return all[0]
	}
	return fmt.Errorf("%w (and %d more)", all[0], len(all)-1)
}

// checkPeersFile says what is wrong with staticPeersFile, which need not exist.
func checkPeersFile(c *config.Config) error {
	if c.StaticPeersFile == "" {
		return nil
	}
	text, err := os.ReadFile(c.StaticPeersFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("staticPeersFile (%s): %w", c.Source("staticPeersFile"), err)
	}
	_, err = c.ParseStaticPeersFile(text)
	return err
}
