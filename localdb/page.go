package localdb

import (
	"context"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/work"
	"github.com/loveseat-db/loveseat/localdb/internal/sqlite"
)

// smallPage is up to how many bytes a page is not counted.
const smallPage = 256 << 10

// readPage reads rows, whose documents are held by the account of ctx ([work.Hold]) until free
// is called. If there is no memory for them they are dropped and read again when there is: those
// who wait hold nothing, and how many read at a time is bounded by the connections.
func readPage[T any](ctx context.Context, view func(context.Context, func(*sqlite.Conn) error) error, doc func(*T) *couch.Doc, read func(*sqlite.Conn) ([]T, error)) (page []T, free func(), err error) {
	var held int64
	free = func() { work.Release(ctx, held) }
	for {
		need := int64(0)
		err = view(ctx, func(c *sqlite.Conn) (err error) {
			if page, err = read(c); err != nil {
				return err
			}
			if size := pageSize(page, doc); size > max(held, smallPage) {
				need = size - held
			}
			if work.TryHold(ctx, need) {
				held += need
				need = 0
			} else {
				page = nil
			}
			return nil
		})
		if err == nil && need > 0 {
			if err = work.Hold(ctx, need); err == nil {
				held += need
				continue
			}
		}
		if err != nil {
			free()
			return nil, nil, err
		}
		return page, free, nil
	}
}

// pageSize is what a page takes: each document, and it once more in an answer that is made of it.
func pageSize[T any](page []T, doc func(*T) *couch.Doc) (size int64) {
	for i := range page {
		size += 2 * int64(docSize(doc(&page[i])))
	}
	return size
}
