package membership

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// WriteFile replaces path by data, mode 0600. When it returns nil the new content
// survives a power cut; when it fails, path holds the old or the new content whole. The
// temporary name is fixed, so that crashes leave one file at most.
func WriteFile(path string, data []byte) error {
	tmp := path + ".tmp"
	if err := writeSync(tmp, data); err != nil {
		_ = os.Remove(tmp) // the write error is the one to report
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		_ = os.Remove(tmp)
		return err
	}
	return syncDir(filepath.Dir(path))
}

func writeSync(path string, data []byte) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.Write(data); err != nil {
		return err
	}
	return f.Sync()
}

// syncDir makes a rename in dir durable: fsync of the file alone does not.
func syncDir(dir string) (err error) {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("open the directory to sync it: %w", err)
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	return d.Sync()
}
