package couchtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// feed is what a feed told.
type feed struct {
	couch.ChangesResult
	rows []couch.Change
}

func (f feed) ids() string {
	var ids []string
	for _, c := range f.rows {
		ids = append(ids, c.ID)
	}
	return strings.Join(ids, " ")
}

func (e *env) changes(db couch.DB, o couch.ChangesOptions) (f feed) {
	e.Helper()
	ctx, cancel := context.WithTimeout(e.Context(), patience)
	defer cancel()
	var err error
	f.ChangesResult, err = db.Changes(ctx, o, func(c *couch.Change) error { f.rows = append(f.rows, *c); return nil })
	e.ok(err)
	return f
}

// A follower runs a waiting feed; changes come by the channel.
type follower struct {
	changes chan couch.Change
	done    chan struct{}
	cancel  context.CancelFunc
	result  couch.ChangesResult // once done
	err     error
}

func (e *env) follow(db couch.DB, o couch.ChangesOptions) *follower {
	ctx, cancel := context.WithCancel(e.Context())
	f := &follower{changes: make(chan couch.Change, 1000), done: make(chan struct{}), cancel: cancel}
	go func() {
		defer close(f.done)
		f.result, f.err = db.Changes(ctx, o, func(c *couch.Change) error { f.changes <- *c; return nil })
	}()
	e.Cleanup(func() { cancel(); <-f.done })
	return f
}

func (f *follower) next(e *env) couch.Change {
	e.Helper()
	select {
	case c := <-f.changes:
		return c
	case <-f.done:
		select {
		case c := <-f.changes:
			return c
		default:
		}
		e.Fatalf("the feed ended: %v", f.err)
	case <-time.After(patience):
		e.Fatal("no change came")
	}
	panic("not reached")
}

func (f *follower) end(e *env) error {
	e.Helper()
	select {
	case <-f.done:
	case <-time.After(patience):
		e.Fatal("the feed did not end")
	}
	return f.err
}

var changesTests = []test{
	{"Empty", func(e *env) {
		f := e.changes(e.db(), couch.ChangesOptions{})
		e.equal("changes", len(f.rows), 0)
		if f.Pending > 0 {
			e.Errorf("pending: %d", f.Pending)
		}
	}},
	{"LastChangeOnly", func(e *env) {
		db := e.db()
		ra := e.put(db, `{"_id":"a"}`)
		rb := e.put(db, `{"_id":"b"}`)
		e.put(db, `{"_id":"c"}`)
		ra = e.put(db, fmt.Sprintf(`{"_id":"a","_rev":"%s"}`, ra))
		rb = e.put(db, fmt.Sprintf(`{"_id":"b","_rev":"%s","_deleted":true}`, rb))
		f := e.changes(db, couch.ChangesOptions{})
		e.equal("order", f.ids(), "c a b")
		e.equal("a", words(f.rows[1].Revs, f.rows[1].Deleted, f.rows[1].Doc), fmt.Sprintf("[%s] false <nil>", ra))
		e.equal("b", words(f.rows[2].Revs, f.rows[2].Deleted), fmt.Sprintf("[%s] true", rb))
		e.equal("last", f.LastSeq, f.rows[2].Seq)
		e.equal("last", f.LastSeq, e.info(db).UpdateSeq)
	}},
	{"SinceAndLimit", func(e *env) {
		db := e.db()
		for i := range 7 {
			e.put(db, fmt.Sprintf(`{"_id":"%d"}`, i))
		}
		var all []string
		since := couch.Seq("")
		for _, wantPending := range []int64{4, 1, 0, 0} {
			f := e.changes(db, couch.ChangesOptions{Since: since, Limit: 3})
			if f.Pending >= 0 {
				e.equal("pending", f.Pending, wantPending)
			}
			all = append(all, strings.Fields(f.ids())...)
			since = f.LastSeq
		}
		e.equal("all", all, "[0 1 2 3 4 5 6]")
		one := e.changes(db, couch.ChangesOptions{})
		for i, c := range one.rows {
			e.equal("after "+c.ID, len(e.changes(db, couch.ChangesOptions{Since: c.Seq}).rows), 6-i)
		}
		e.equal("since 0", len(e.changes(db, couch.ChangesOptions{Since: "0"}).rows), 7)
		e.equal("since now", len(e.changes(db, couch.ChangesOptions{Since: couch.Now}).rows), 0)
	}},
	{"Descending", func(e *env) {
		db := e.db()
		e.put(db, `{"_id":"a"}`, `{"_id":"b"}`, `{"_id":"c"}`)
		e.equal("order", e.changes(db, couch.ChangesOptions{Descending: true}).ids(), "c b a")
		e.equal("limited", e.changes(db, couch.ChangesOptions{Descending: true, Limit: 1}).ids(), "c")
	}},
	{"AllLeaves", func(e *env) {
		db := e.db()
		e.replicate(db, history("a", "c b a", ""), history("a", "d b a", ""), history("a", "t b a", `,"_deleted":true`))
		e.equal("winner", e.changes(db, couch.ChangesOptions{}).rows[0].Revs, "[3-d]")
		e.equal("leaves", sortedRevs(e.changes(db, couch.ChangesOptions{AllLeaves: true}).rows[0].Revs), "[3-c 3-d 3-t]")
	}},
	{"IncludeDocs", func(e *env) {
		db := e.db()
		e.replicate(db, history("a", "c", `,"n":1.0`), history("a", "b", ""), history("z", "y x", `,"_deleted":true`))
		e.write(db, couch.WriteOptions{}, withAttachment("t", "t.txt", []byte("hello")))
		f := e.changes(db, couch.ChangesOptions{IncludeDocs: true, Conflicts: true, Attachments: true})
		e.equal("a", words(f.rows[0].Doc.ID, f.rows[0].Doc.Rev, string(f.rows[0].Doc.Body), f.rows[0].Doc.Conflicts), `a 1-c {"n":1.0} [1-b]`)
		e.equal("z", f.rows[1].Doc.Deleted, true)
		e.equal("t", string(e.content(&f.rows[2].Doc.Attachments[0])), "hello")
		f = e.changes(db, couch.ChangesOptions{IncludeDocs: true})
		e.equal("stub", f.rows[2].Doc.Attachments[0].Stub(), true)
	}},
	{"DocIDs", func(e *env) {
		db := e.db()
		e.put(db, `{"_id":"a"}`, `{"_id":"b"}`, `{"_id":"c"}`)
		e.equal("ids", e.changes(db, couch.ChangesOptions{DocIDs: []string{"c", "a", "none"}}).ids(), "a c")
		e.equal("none", e.changes(db, couch.ChangesOptions{DocIDs: []string{}}).ids(), "")
	}},
	{"Selector", func(e *env) {
		db := e.db()
		e.put(db, `{"_id":"a","n":1}`, `{"_id":"b","n":2}`, `{"_id":"c","n":3}`)
		selector := json.RawMessage(`{"n":{"$gte":2}}`)
		f := e.changes(db, couch.ChangesOptions{Selector: selector})
		e.equal("selected", f.ids(), "b c")
		if f.rows[0].Doc != nil {
			e.Error("a document that was not asked for")
		}
		e.equal("limited", e.changes(db, couch.ChangesOptions{Selector: selector, Limit: 1}).ids(), "b")
		_, err := db.Changes(e.Context(), couch.ChangesOptions{Selector: json.RawMessage(`{"n":{"$foo":2}}`)}, func(*couch.Change) error { return nil })
		if couch.AsError(err) == nil || couch.AsError(err).Status != 400 {
			e.Errorf("a bad selector: %v", err)
		}
	}},
	{"CallerStops", func(e *env) {
		db := e.db()
		e.put(db, `{"_id":"a"}`, `{"_id":"b"}`, `{"_id":"c"}`)
		stop := errors.New("stop")
		n := 0
		_, err := db.Changes(e.Context(), couch.ChangesOptions{}, func(*couch.Change) error {
			if n++; n == 2 {
				return stop
			}
			return nil
		})
		if !errors.Is(err, stop) || n != 2 {
			e.Errorf("%v after %d", err, n)
		}
	}},
	{"Longpoll", func(e *env) {
		db := e.db()
		e.put(db, `{"_id":"a"}`)
		f := e.changes(db, couch.ChangesOptions{Feed: couch.FeedLongpoll})
		e.equal("what there is", f.ids(), "a")
		waiting := e.follow(db, couch.ChangesOptions{Feed: couch.FeedLongpoll, Since: f.LastSeq})
		e.put(db, `{"_id":"b"}`)
		c := waiting.next(e)
		e.ok(waiting.end(e))
		e.equal("woken by", c.ID, "b")
		e.equal("last", waiting.result.LastSeq, c.Seq)
	}},
	{"LongpollTimeout", func(e *env) {
		db := e.db()
		e.put(db, `{"_id":"a"}`)
		since := e.info(db).UpdateSeq
		f := e.changes(db, couch.ChangesOptions{Feed: couch.FeedLongpoll, Since: since, Timeout: 50 * time.Millisecond})
		e.equal("changes", len(f.rows), 0)
		e.equal("last", f.LastSeq, since)
	}},
	{"LongpollOfSelected", func(e *env) {
		db := e.db()
		waiting := e.follow(db, couch.ChangesOptions{Feed: couch.FeedLongpoll, DocIDs: []string{"b"}})
		e.put(db, `{"_id":"a"}`)
		e.put(db, `{"_id":"b"}`)
		e.equal("woken by", waiting.next(e).ID, "b")
		e.ok(waiting.end(e))
	}},
	{"WaitingEndsWithItsContext", func(e *env) {
		for _, kind := range []couch.Feed{couch.FeedLongpoll, couch.FeedContinuous} {
			db := e.db()
			f := e.follow(db, couch.ChangesOptions{Feed: kind})
			f.cancel()
			if err := f.end(e); err != nil && !errors.Is(err, context.Canceled) && couch.AsError(err).Status != 408 {
				e.Errorf("%s: %v", kind, err)
			}
		}
	}},
	{"Continuous", func(e *env) {
		db := e.db()
		e.put(db, `{"_id":"a"}`)
		f := e.follow(db, couch.ChangesOptions{Feed: couch.FeedContinuous, IncludeDocs: true, Heartbeat: time.Second})
		e.equal("what there is", f.next(e).ID, "a")
		for i := range 20 {
			e.put(db, fmt.Sprintf(`{"_id":"%d","n":%d}`, i, i))
			c := f.next(e)
			e.equal("what comes", c.ID+string(c.Doc.Body), fmt.Sprintf(`%d{"n":%d}`, i, i))
		}
		f.cancel()
		_ = f.end(e)
	}},
	{"ContinuousSinceNow", func(e *env) {
		db := e.db()
		e.put(db, `{"_id":"a"}`)
		since := e.changes(db, couch.ChangesOptions{Since: couch.Now}).LastSeq
		f := e.follow(db, couch.ChangesOptions{Feed: couch.FeedContinuous, Since: since})
		e.put(db, `{"_id":"b"}`)
		e.equal("first", f.next(e).ID, "b")
	}},
	{"ContinuousTimeout", func(e *env) {
		db := e.db()
		e.put(db, `{"_id":"a"}`)
		f := e.changes(db, couch.ChangesOptions{Feed: couch.FeedContinuous, Timeout: 50 * time.Millisecond})
		e.equal("changes", f.ids(), "a")
		e.equal("last", f.LastSeq, f.rows[0].Seq)
	}},
	{"ContinuousLimit", func(e *env) {
		db := e.db()
		e.put(db, `{"_id":"a"}`)
		f := e.follow(db, couch.ChangesOptions{Feed: couch.FeedContinuous, Limit: 2})
		f.next(e)
		e.put(db, `{"_id":"b"}`)
		f.next(e)
		e.ok(f.end(e))
	}},
	{"ManyFollowers", func(e *env) {
		db := e.db()
		var followers []*follower
		for range 10 {
			followers = append(followers, e.follow(db, couch.ChangesOptions{Feed: couch.FeedContinuous}))
		}
		e.put(db, `{"_id":"a"}`)
		for _, f := range followers {
			e.equal("heard", f.next(e).ID, "a")
		}
	}},
	{"NothingIsMissed", func(e *env) {
		db := e.db()
		f := e.follow(db, couch.ChangesOptions{Feed: couch.FeedContinuous})
		var wg sync.WaitGroup
		for w := range 4 {
			wg.Go(func() {
				for i := range 25 {
					doc := &couch.Doc{ID: fmt.Sprintf("%d-%d", w, i)}
					if _, err := db.BulkDocs(e.Context(), []*couch.Doc{doc}, couch.WriteOptions{}); err != nil {
						e.Error(err)
					}
				}
			})
		}
		seen := map[string]bool{}
		for range 100 {
			seen[f.next(e).ID] = true
		}
		wg.Wait()
		e.equal("seen", len(seen), 100)
	}},
	{"EndsWithItsDatabase", func(e *env) {
		for _, kind := range []couch.Feed{couch.FeedLongpoll, couch.FeedContinuous} {
			name := freshName()
			e.ok(e.Create(e.Context(), name))
			db, err := e.Open(e.Context(), name)
			e.ok(err)
			e.put(db, `{"_id":"a"}`)
			f := e.follow(db, couch.ChangesOptions{Feed: kind, Since: e.info(db).UpdateSeq})
			e.ok(e.Destroy(e.Context(), name))
			if err := f.end(e); kind == couch.FeedContinuous && err == nil {
				e.Errorf("%s: ended without an error", kind)
			}
		}
	}},
}
