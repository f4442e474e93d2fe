package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/localdb"
)

const clients = 32

var filler = strings.Repeat("lorem ipsum dolor sit amet ", 36)

// body is a document of 1 KB without its id.
func body(n int) string { return fmt.Sprintf(`{"n":%d,"tags":["a","b"],"text":"%s"}`, n, filler) }

// gets reads a document of 1 KB with 32 connections; the bound is a bare handler that answers with the same bytes.
func (b *bench) gets(ctx context.Context) error {
	hub, err := b.startHub(ctx, "get")
	if err != nil {
		return err
	}
	defer hub.stop()
	if _, err := once(hub.addr, request("PUT", "/db", "", basic)); err != nil {
		return err
	}
	if _, err := once(hub.addr, request("PUT", "/db/document", body(1), basic)); err != nil {
		return err
	}
	get := request("GET", "/db/document", "", basic)
	answer, err := once(hub.addr, get)
	if err != nil {
		return err
	}
	bare, err := startEcho(ctx, answer)
	if err != nil {
		return err
	}
	defer bare.stop()
	ours, theirs, err := crews(hub, bare)
	if err != nil {
		return err
	}
	defer ours.close()
	defer theirs.close()
	same := func(int, int) []byte { return get }
	r, err := b.compare(hub,
		func() (int, error) { return ours.work(b.turn, 200, same) },
		func() (int, error) { return theirs.work(b.turn, 200, same) })
	if err == nil {
		b.ratio("GET of a document, 32 connections, of a bare handler", r, "requests/s", .5, 4000)
	}
	return err
}

func crews(hub, bare *server) (ours, theirs crew, err error) {
	if ours, err = newCrew(hub.addr, clients); err != nil {
		return nil, nil, err
	}
	theirs, err = newCrew(bare.addr, clients)
	return ours, theirs, err
}

// local makes a database in this process, which bounds what a hub can write.
func (b *bench) local(ctx context.Context, name string) (couch.DB, func(), error) {
	store, err := localdb.OpenStore(filepath.Join(b.dir, name), localdb.Options{})
	if err != nil {
		return nil, nil, err
	}
	stop := func() { _ = store.Close() }
	if err := store.Create(ctx, "db"); err != nil {
		stop()
		return nil, nil, err
	}
	db, err := store.Open(ctx, "db")
	return db, stop, err
}

// written starts a hub with a database beside a local one.
func (b *bench) written(ctx context.Context, name string) (hub *server, db couch.DB, stop func(), err error) {
	if hub, err = b.startHub(ctx, name+"-hub"); err != nil {
		return nil, nil, nil, err
	}
	db, done, err := b.local(ctx, name+"-local")
	if err == nil {
		_, err = once(hub.addr, request("PUT", "/db", "", basic))
	}
	if err != nil {
		hub.stop()
		return nil, nil, nil, err
	}
	return hub, db, func() { hub.stop(); done() }, nil
}

// bulk writes batches of 1,000 documents of 1 KB; the bound is localdb given the same documents.
func (b *bench) bulk(ctx context.Context) error {
	hub, db, stop, err := b.written(ctx, "bulk")
	if err != nil {
		return err
	}
	defer stop()
	written := 0
	for _, n := range []int{1, 4} {
		ours, err := newCrew(hub.addr, n)
		if err != nil {
			return err
		}
		theirs, stamps, salt := make([]func() string, n), make([]*stamp, n), time.Now().UnixNano()
		for who := range n {
			prefix := fmt.Sprintf("%x-%d-", salt, who)
			theirs[who], stamps[who] = ids(prefix), bulkStamp(prefix)
		}
		r, err := b.compare(hub, func() (int, error) {
			n, err := ours.work(b.turn, 201, func(who, _ int) []byte { return stamps[who].again() })
			return n * perBatch, err
		}, func() (int, error) {
			n, err := together(n, b.turn, func(who, _ int) error { return writeAll(ctx, db, theirs[who]) })
			return n * perBatch, err
		})
		ours.close()
		if err != nil {
			return err
		}
		written += r.did
		b.ratio(fmt.Sprintf("_bulk_docs of 1,000 × 1 KB, %d at a time, of localdb", n), r, "documents/s", .6, map[int]float64{1: 11600, 4: 19400}[n])
	}
	hub.stop() // which empties the log
	size, err := b.size("bulk-hub")
	b.row("  disk for a document of 1 KB", fmt.Sprintf("%d bytes", size/int64(max(written, 1))), "", true, "its id, revision and indexes with it")
	return err
}

// size is how many bytes are in a directory.
func (b *bench) size(dir string) (n int64, err error) {
	err = filepath.WalkDir(filepath.Join(b.dir, dir), func(_ string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		info, err := e.Info()
		if err == nil {
			n += info.Size()
		}
		return err
	})
	return n, err
}

const perBatch = 1000

func writeAll(ctx context.Context, db couch.DB, id func() string) error {
	docs := make([]*couch.Doc, perBatch)
	for i := range docs {
		docs[i] = &couch.Doc{ID: id(), Body: bodies[i]}
	}
	results, err := db.BulkDocs(ctx, docs, couch.WriteOptions{})
	for _, r := range results {
		if r.Err != nil {
			err = errors.Join(err, r.Err)
		}
	}
	return err
}

// puts writes single durable documents with 32 connections; the bound is localdb with 32 goroutines.
func (b *bench) puts(ctx context.Context) error {
	hub, db, stop, err := b.written(ctx, "put")
	if err != nil {
		return err
	}
	defer stop()
	ours, err := newCrew(hub.addr, clients)
	if err != nil {
		return err
	}
	defer ours.close()
	theirs, stamps := make([]func() string, clients), make([]*stamp, clients)
	for who := range clients {
		prefix := fmt.Sprintf("%d-", who)
		theirs[who], stamps[who] = ids(prefix), newStamp(request("PUT", "/db/"+prefix+blank, body(0), basic))
	}
	content := []byte(body(0))
	r, err := b.compare(hub,
		func() (int, error) {
			return ours.work(b.turn, 201, func(who, _ int) []byte { return stamps[who].again() })
		},
		func() (int, error) {
			return together(clients, b.turn, func(who, _ int) error {
				results, err := db.BulkDocs(ctx, []*couch.Doc{{ID: theirs[who](), Body: content}}, couch.WriteOptions{})
				if err == nil && results[0].Err != nil {
					err = results[0].Err
				}
				return err
			})
		})
	if err == nil {
		b.ratio("durable PUTs, 32 connections, of localdb with 32 goroutines", r, "documents/s", .7, 2000)
	}
	return err
}
