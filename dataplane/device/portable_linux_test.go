package device

import (
	"errors"
	"fmt"
	"io"
	"os"
	"testing"
)

func TestLeaves(t *testing.T) {
	wrapped := fmt.Errorf("write: %w", &os.PathError{Op: "write", Err: io.ErrShortWrite})
	var chain error // as wireguard/tun joins them, one by one
	for range 5 {
		chain = errors.Join(chain, wrapped)
	}
	for _, c := range []struct {
		name string
		err  error
		want int
	}{
		{"one", io.EOF, 1},
		{"one, wrapped", wrapped, 1},
		{"one, joined with nothing", errors.Join(nil, wrapped), 1},
		{"a chain", chain, 5},
		{"a tree", errors.Join(chain, io.EOF, errors.Join(wrapped, chain)), 12},
	} {
		if got := leaves(c.err); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}
