package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// draft is what a file is called until it is whole, so that no runtime reads or starts it.
func draft(path string) string {
	return filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".tmp")
}

// replaceFile gives path a content and a mode, both whole and durable when it returns nil.
func replaceFile(path string, data []byte, mode fs.FileMode) (err error) {
	tmp := draft(path)
	defer func() {
		if err != nil {
			_ = os.Remove(tmp) // the first error is the one to report
		}
	}()
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(mode) // which the umask may have narrowed
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// removeFile removes path, and its draft that a crash may have left, and says whether there
// was anything.
func removeFile(path string) (removed bool, err error) {
	for _, name := range []string{path, draft(path)} {
		switch err := os.Remove(name); {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return removed, err
		default:
			removed = true
		}
	}
	if !removed {
		return false, nil
	}
	return true, syncDir(filepath.Dir(path))
}

func syncDir(dir string) (err error) {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return f.Sync()
}
