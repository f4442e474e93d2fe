package couchhttp

import (
	"context"
	"crypto/md5"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/gzhttp"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// changes is GET and POST /{db}/_changes.
// https://docs.couchdb.org/en/stable/api/database/changes.html
func changes(c *call) error {
	var body []byte
	var err error
	if c.r.Method == "POST" {
		if err := c.needJSON(); err != nil {
			return err
		}
		if body, err = c.listBody(); err != nil {
			return err
		}
	}
	q, err := parseChanges(c.query, c.r.Header.Get("Last-Event-ID"), body)
	if err != nil {
		return err
	}
	if len(q.DocIDs) > c.s.o.Limits.Bulk {
		return couch.TooLarge("too_large", "more than "+strconv.Itoa(c.s.o.Limits.Bulk)+" doc_ids")
	}
	db, err := c.open()
	if err != nil {
		return err
	}
	if q.Feed == couch.FeedNormal && (c.s.o.Varies == nil || !c.s.o.Varies(c.db)) {
		if same, err := c.feedETag(db); same || err != nil {
			return err
		}
	}
	if c.r.Method == "HEAD" {
		jsonHeader(c.w)
		return nil
	}
	f := &outFeed{out: newOutput(c.w), q: q, call: c, left: q.Limit}
	return f.run(db)
}

// feedETag sets the ETag of what a database tells now, and answers 304 if that is
// what the client has.
func (c *call) feedETag(db couch.DB) (same bool, err error) {
	info, err := db.Info(c.r.Context())
	if err != nil {
		return false, err
	}
	sum := md5.Sum(fmt.Append(nil, info.UUID, "\n", info.UpdateSeq, "\n", info.PurgeSeq))
	etag := `"` + new(big.Int).SetBytes(sum[:]).Text(36) + `"`
	if c.notModified(etag) {
		return true, nil
	}
	c.w.Header().Set("ETag", etag)
	return false, nil
}

// An outFeed is a changes feed being sent. What waits is flushed before it waits:
// rows go out as soon as no more of them are at hand.
type outFeed struct {
	call *call
	q    *changesParams
	rows int // sent
	seen int // told by the database, sent or filtered
	left int // of the limit, if there is one
	last couch.Seq

	mu    sync.Mutex // the heartbeat writes from another goroutine
	out   *output
	beat  *time.Timer
	ended bool
}

var errLimit = errors.New("limit reached")

func (f *outFeed) run(db couch.DB) error {
	ctx, cancel := context.WithCancelCause(f.call.context(f.q.Selector != nil || f.q.IncludeDocs))
	defer cancel(nil)
	f.head()
	o := f.q.ChangesOptions
	o.Feed, o.Heartbeat, o.Timeout = couch.FeedNormal, 0, 0
	res, err := f.changes(ctx, db, o)
	if err != nil || !f.waits() {
		return f.tail(res, err)
	}
	stop := context.AfterFunc(f.call.s.feeds, func() { cancel(errFeedsEnd) })
	defer stop()
	if err := f.startWaiting(cancel); err != nil {
		return err
	}
	defer f.stopWaiting()
	for f.waits() {
		o.Feed, o.Since, o.Timeout = couch.FeedLongpoll, res.LastSeq, f.q.Timeout
		before := f.seen
		next, err := f.changes(ctx, db, o)
		if errors.Is(context.Cause(ctx), errFeedsEnd) {
			break
		}
		if err != nil {
			return f.tail(res, err)
		}
		res = next
		if f.seen == before { // the timeout has come
			break
		}
		if err := f.flush(); err != nil {
			return err
		}
	}
	f.stopWaiting()
	return f.tail(res, nil)
}

var errFeedsEnd = errors.New("the server ends its feeds")

// waits reports whether the feed goes on when there is nothing more to send.
func (f *outFeed) waits() bool {
	if f.q.Limit > 0 && f.left == 0 || f.q.Descending {
		return false
	}
	switch f.q.Feed {
	case couch.FeedLongpoll:
		return f.rows == 0
	case couch.FeedContinuous:
		return true
	}
	return false
}

// changes sends one run of changes.
func (f *outFeed) changes(ctx context.Context, db couch.DB, o couch.ChangesOptions) (couch.ChangesResult, error) {
	o.Limit = f.left
	if f.q.designOnly {
		o.Limit = 0
	}
	res, err := db.Changes(ctx, o, f.row)
	if errors.Is(err, errLimit) {
		return couch.ChangesResult{LastSeq: f.last, Pending: -1}, nil
	}
	return res, err
}

func (f *outFeed) row(ch *couch.Change) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seen++
	if f.q.designOnly && !strings.HasPrefix(ch.ID, "_design/") {
		return nil
	}
	switch {
	case f.q.eventSource:
		f.out.text("data: ")
	case f.q.Feed != couch.FeedContinuous && f.rows > 0:
		f.out.text(",\r\n")
	}
	if err := f.appendChange(ch); err != nil {
		return err
	}
	switch {
	case f.q.eventSource:
		f.out.text("\nid: ")
		f.out.buf = couch.AppendString(f.out.buf, string(ch.Seq))
		f.out.text("\n\n")
	case f.q.Feed == couch.FeedContinuous:
		f.out.text("\n")
	}
	f.rows++
	f.last = ch.Seq
	if err := f.out.grown(); err != nil {
		return err
	}
	if f.left > 0 {
		if f.left--; f.left == 0 && f.q.designOnly {
			return errLimit
		}
	}
	return nil
}

func (f *outFeed) appendChange(ch *couch.Change) error {
	b := append(f.out.buf, `{"seq":`...)
	b = couch.AppendString(b, string(ch.Seq))
	b = append(b, `,"id":`...)
	b = couch.AppendString(b, ch.ID)
	b = append(b, `,"changes":[`...)
	for i, r := range ch.Revs {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"rev":`...)
		b = couch.AppendString(b, r.String())
		b = append(b, '}')
	}
	b = append(b, ']')
	if ch.Deleted {
		b = append(b, `,"deleted":true`...)
	}
	f.out.buf = b
	if ch.Doc != nil {
		ch.Doc.DeletedConflicts = nil
		f.out.text(`,"doc":`)
		if err := f.out.doc(f.call.r.Context(), ch.Doc); err != nil {
			return err
		}
	}
	f.out.text("}")
	return nil
}

func (f *outFeed) head() {
	if f.q.Feed == couch.FeedContinuous { // see startWaiting: it will wait, whatever it sends first
		f.out.w.Header().Set(gzhttp.HeaderNoCompression, "1")
	}
	switch {
	case f.q.eventSource:
		h := f.out.w.Header()
		h.Set("Content-Type", "text/event-stream")
		h.Set("Cache-Control", "no-cache")
	case f.q.Feed != couch.FeedContinuous:
		f.out.text(`{"results":[` + "\n")
	}
}

// tail ends the feed after res, or with err if nothing has been sent.
func (f *outFeed) tail(res couch.ChangesResult, err error) error {
	if err != nil {
		return err
	}
	if f.q.eventSource {
		return f.out.send()
	}
	if f.q.Feed == couch.FeedContinuous {
		f.out.text(`{"last_seq":`)
	} else {
		f.out.text("\n],\n" + `"last_seq":`)
	}
	f.out.buf = couch.AppendString(f.out.buf, string(res.LastSeq))
	if res.Pending >= 0 {
		f.out.text(`,"pending":`)
		f.out.buf = strconv.AppendInt(f.out.buf, res.Pending, 10)
	}
	f.out.text("}")
	return f.out.end()
}

// startWaiting flushes what there is and starts the heartbeat. A feed that has
// sent nothing yet goes uncompressed: a compressor per waiting client costs more than its rows.
func (f *outFeed) startWaiting(cancel context.CancelCauseFunc) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.out.sent {
		f.out.w.Header().Set(gzhttp.HeaderNoCompression, "1")
		if len(f.out.buf) == 0 && !f.q.eventSource {
			f.out.text("\n") // so that the header goes out, as CouchDB does
		} else if len(f.out.buf) == 0 {
			f.out.text(":\n\n")
		}
	}
	if f.q.Heartbeat > 0 {
		f.beat = time.AfterFunc(f.q.Heartbeat, func() { f.heartbeat(cancel) })
	}
	return f.out.flush()
}

func (f *outFeed) flush() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.beat != nil {
		f.beat.Reset(f.q.Heartbeat)
	}
	return f.out.flush()
}

// heartbeat shows that the server is alive. A client that is gone ends the feed.
func (f *outFeed) heartbeat(cancel context.CancelCauseFunc) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ended {
		return
	}
	if f.q.eventSource {
		f.out.text("event: heartbeat\ndata: \n\n")
	} else {
		f.out.text("\n")
	}
	if err := f.out.flush(); err != nil {
		cancel(http.ErrAbortHandler)
		return
	}
	f.beat.Reset(f.q.Heartbeat)
}

// stopWaiting ends the heartbeat; after it nobody else writes.
func (f *outFeed) stopWaiting() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ended = true
	if f.beat != nil {
		f.beat.Stop()
	}
}
