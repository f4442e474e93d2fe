package couchhttp

import (
	"context"
	"errors"
	"io"
	"net/url"
	"strconv"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// ErrSilent ends a changes feed on which not even heartbeats come any more.
var ErrSilent = errors.New("the changes feed fell silent")

var errTimeout = errors.New("no change in time") // never leaves this file

// Changes reads GET /{db}/_changes, or POST with document ids or a selector.
//
// A longpoll that the server ends without a change is asked again, and a
// continuous feed that it ends is continued, until ChangesOptions.Timeout or the
// context: servers cap their own timeouts (CouchDB at 60 s). A waiting feed that shows
// no sign of life for three heartbeats ends with [ErrSilent].
func (d *remote) Changes(ctx context.Context, o couch.ChangesOptions, fn func(*couch.Change) error) (couch.ChangesResult, error) {
	if o.Feed != couch.FeedLongpoll && o.Feed != couch.FeedContinuous {
		f := feed{d: d, o: o, fn: fn, last: couch.ChangesResult{LastSeq: o.Since, Pending: -1}}
		err := f.once(ctx)
		if f.fell != nil {
			err = f.fell
		}
		return f.last, err
	}
	if o.Since == couch.Now { // a later request must not start from a later present
		one := o
		one.Feed, one.Limit = couch.FeedNormal, 1
		now, err := d.Changes(ctx, one, func(*couch.Change) error { return nil })
		if err != nil {
			return now, err
		}
		o.Since = now.LastSeq
	}
	if o.Heartbeat <= 0 {
		o.Heartbeat = d.c.o.Heartbeat
	}
	f := feed{d: d, o: o, fn: fn, last: couch.ChangesResult{LastSeq: o.Since, Pending: -1}}
	return f.wait(ctx)
}

// A feed is one call of Changes, over any number of requests.
type feed struct {
	d    *remote
	o    couch.ChangesOptions
	fn   func(*couch.Change) error
	last couch.ChangesResult
	rows int
	fell error // fn's

	idle    *time.Timer // o.Timeout since the last row, nil without
	silence *time.Timer // three heartbeats since the last byte
}

// wait repeats requests until the feed has what it was asked for.
func (f *feed) wait(ctx context.Context) (couch.ChangesResult, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	f.silence = time.AfterFunc(3*f.o.Heartbeat, func() { cancel(ErrSilent) })
	defer f.silence.Stop()
	if f.o.Timeout > 0 {
		f.idle = time.AfterFunc(f.o.Timeout, func() { cancel(errTimeout) })
		defer f.idle.Stop()
	}
	for {
		began, rows := time.Now(), f.rows
		err := f.once(ctx)
		switch {
		case f.fell != nil:
			return f.last, f.fell
		case errors.Is(context.Cause(ctx), errTimeout):
			return f.last, nil
		case err != nil:
			return f.last, err
		case f.o.Limit > 0 && f.rows >= f.o.Limit, f.o.Feed == couch.FeedLongpoll && f.rows > 0:
			return f.last, nil
		}
		if f.rows == rows && time.Since(began) < time.Second { // a server that does not wait must not be hammered
			select {
			case <-time.After(time.Second):
			case <-ctx.Done():
			}
		}
	}
}

// once makes one request.
func (f *feed) once(ctx context.Context) error {
	waiting := f.silence != nil
	o := f.o
	o.Since = f.last.LastSeq
	q := changesQuery(o)
	if o.Limit > 0 {
		q.Set("limit", strconv.Itoa(o.Limit-f.rows))
	}
	if waiting {
		q.Set("feed", string(o.Feed))
		q.Set("heartbeat", strconv.FormatInt(max(1, o.Heartbeat.Milliseconds()), 10))
	}
	r := request{method: "GET", path: f.d.at("_changes"), query: q, plain: waiting, repeat: true}
	filter(&r, o)
	if waiting {
		f.silence.Reset(3 * o.Heartbeat)
	}
	return f.d.c.stream(ctx, r, o.IncludeDocs, func(s *jsonStream) error {
		if waiting {
			s.r = &alive{r: s.r, silence: f.silence, after: 3 * o.Heartbeat}
		}
		if o.Feed == couch.FeedContinuous {
			return f.lines(s)
		}
		return f.results(s)
	})
}

// filter adds the members that select documents: POST with _doc_ids or _selector.
func filter(r *request, o couch.ChangesOptions) {
	switch {
	case o.DocIDs != nil:
		r.query.Set("filter", "_doc_ids")
		r.body = newPayload()
		r.body.buf = append(r.body.buf, `{"doc_ids":`+marshal(o.DocIDs)+`}`...)
	case o.Selector != nil:
		r.query.Set("filter", "_selector")
		r.body = newPayload()
		r.body.buf = append(append(append(r.body.buf, `{"selector":`...), o.Selector...), '}')
	default:
		return
	}
	r.method = "POST"
}

// results reads {"results":[…],"last_seq":…,"pending":…}.
func (f *feed) results(s *jsonStream) error {
	return s.object(func(key string) (err error) {
		switch key {
		case "results":
			return s.array(func() error { return f.row(s) })
		case "last_seq":
			f.last.LastSeq, err = s.seq()
		case "pending":
			err = s.decode(&f.last.Pending)
		case "error":
			code, _ := s.string()
			return rowError(code, "the changes feed broke off")
		default:
			err = s.skip()
		}
		return err
	})
}

// lines reads a row a line, until the server ends the feed.
func (f *feed) lines(s *jsonStream) error {
	for {
		if _, err := s.peek(); errors.Is(err, io.ErrUnexpectedEOF) {
			return nil // between rows: the server's timeout
		}
		if err := f.row(s); err != nil {
			return err
		}
	}
}

// row reads {"seq":…,"id":…,"changes":[{"rev":…}],"deleted":…,"doc":…}, or the
// {"last_seq":…,"pending":…} that closes a continuous feed.
func (f *feed) row(s *jsonStream) error {
	c, last := &couch.Change{}, false
	err := s.object(func(key string) (err error) {
		switch key {
		case "seq":
			c.Seq, err = s.seq()
		case "id":
			c.ID, err = s.string()
		case "changes":
			err = s.array(func() error {
				return s.object(func(key string) error {
					if key != "rev" {
						return s.skip()
					}
					return s.appendRev(&c.Revs)
				})
			})
		case "deleted":
			err = s.decode(&c.Deleted)
		case "doc":
			var raw []byte
			if raw, err = s.value(); err == nil && string(raw) != "null" {
				c.Doc, err = couch.ParseDoc(raw)
			}
		case "last_seq":
			last = true
			f.last.LastSeq, err = s.seq()
		case "pending":
			err = s.decode(&f.last.Pending)
		case "error":
			code, _ := s.string()
			return rowError(code, "the changes feed broke off")
		default:
			err = s.skip()
		}
		return err
	})
	if err != nil || last {
		return err
	}
	f.pause() // the time fn takes is not the server's silence
	if f.fell = f.fn(c); f.fell != nil {
		return f.fell
	}
	f.resume()
	if f.rows++; c.Seq != "" { // clusters give null for rows between batches
		f.last.LastSeq = c.Seq
	}
	return nil
}

func (f *feed) pause() {
	if f.silence != nil {
		f.silence.Stop()
	}
	if f.idle != nil {
		f.idle.Stop()
	}
}

func (f *feed) resume() {
	if f.silence != nil {
		f.silence.Reset(3 * f.o.Heartbeat)
	}
	if f.idle != nil {
		f.idle.Reset(f.o.Timeout)
	}
}

// alive notes every byte that comes.
type alive struct {
	r       io.Reader
	silence *time.Timer
	after   time.Duration
}

func (a *alive) Read(p []byte) (int, error) {
	n, err := a.r.Read(p)
	if n > 0 {
		a.silence.Reset(a.after)
	}
	return n, err
}

// changesQuery is the query of a changes feed that the options make, without the
// kind of feed. Parameters of a filter with names that CouchDB gives a meaning of its own are the caller's to avoid.
func changesQuery(o couch.ChangesOptions) url.Values {
	q := url.Values{}
	for name, value := range o.FilterParams { // first, so that they cannot be taken for anything else
		q.Set(name, value)
	}
	set := func(name, value string, on bool) {
		if on {
			q.Set(name, value)
		}
	}
	set("filter", o.Filter, o.Filter != "")
	set("since", string(o.Since), o.Since != "")
	set("style", "all_docs", o.AllLeaves)
	set("descending", "true", o.Descending)
	set("include_docs", "true", o.IncludeDocs)
	set("conflicts", "true", o.IncludeDocs && o.Conflicts)
	set("attachments", "true", o.IncludeDocs && o.Attachments)
	return q
}
