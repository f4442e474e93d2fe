package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/localdb"
)

// Free disk space: below the first writes may fail soon, below the second now.
const (
	littleSpace = 1 << 30
	noSpace     = 64 << 20
)

// disk looks whether a directory, or where it would be made, can be written, and the space there.
func (d *doctor) disk(check, dir string) bool {
	at := dir
	for {
		if _, err := os.Stat(at); err == nil || filepath.Dir(at) == at {
			break
		}
		at = filepath.Dir(at)
	}
	f, err := os.CreateTemp(at, ".doctor-*")
	if err != nil {
		return d.fail(check, "Give this user the right to write there, or choose another directory (--identity, --store).", "%s cannot be written: %v", at, err)
	}
	_, err = f.Write(make([]byte, 4096))
	err = errors.Join(err, f.Sync(), f.Close(), os.Remove(f.Name()))
	if err != nil {
		return d.fail(check, "Make room, or look at the disk's health.", "%s cannot be written: %v", at, err)
	}
	free, known := freeSpace(at)
	switch {
	case !known:
		d.ok(check, "%s can be written", at)
	case free < noSpace:
		return d.fail(check, "Make room: a database that cannot write stops.", "%s of free space at %s", size(free), at)
	case free < littleSpace:
		d.warn(check, "Make room before a large replication.", "%s of free space at %s", size(free), at)
	default:
		d.ok(check, "%s can be written, %s free", at, size(free))
	}
	return true
}

// store opens a local store and its databases.
func (d *doctor) store(ctx context.Context, dir string) {
	if _, err := os.Stat(dir); err != nil {
		d.fail("store", "Check --store: it is the directory in front of the database's name, ./data for ./data/notes.", "there is no local store %s", dir)
		return
	}
	if !d.disk("store", dir) {
		return
	}
	store, err := localdb.OpenStore(dir, localdb.Options{})
	if err != nil {
		d.fail("store", "Restore the store from a backup, or sync its databases anew from a peer.", "%s cannot be opened: %v", dir, err)
		return
	}
	defer store.Close()
	names, err := store.Databases(ctx)
	if err != nil {
		d.fail("store", "Restore the store from a backup, or sync its databases anew from a peer.", "%s cannot be read: %v", dir, err)
		return
	}
	for _, name := range names {
		if n, err := readAllOf(ctx, store, name); err != nil {
			d.fail("store", "Restore it from a backup, or sync it anew from a peer.", "database %q is damaged: %v", name, err)
		} else {
			d.ok("store", "database %q is healthy: %d documents", name, n)
		}
	}
}

// readAllOf reads every document of a database once, so that what is damaged shows.
func readAllOf(ctx context.Context, store *localdb.Store, name string) (n int, err error) {
	db, err := store.Open(ctx, name)
	if err != nil {
		return 0, err
	}
	_, err = db.AllDocs(ctx, couch.AllDocsOptions{IncludeDocs: true}, func(*couch.Row) error { n++; return nil })
	if err != nil {
		return n, fmt.Errorf("after %d documents: %w", n, err)
	}
	return n, nil
}
