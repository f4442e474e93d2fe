package share

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/couchhttp"
	"github.com/loveseat-db/loveseat/internal/couchkivik"
	"github.com/loveseat-db/loveseat/replicate"
)

const openSelector = `{"open":true}`

// db makes a database and returns it as the engine has it.
func (w *world) db(name string) couch.DB {
	w.t.Helper()
	return couchkivik.From(w.create(name))
}

// revision makes a document of a history, the newest first.
func revision(id string, gen int64, hashes []string, body string) *couch.Doc {
	return &couch.Doc{ID: id, Rev: couch.Rev{Gen: gen, Hash: hashes[0]}, Revisions: hashes, Body: json.RawMessage(body)}
}

func (w *world) graft(db couch.DB, docs ...*couch.Doc) {
	w.t.Helper()
	results, err := db.BulkDocs(w.ctx, docs, couch.WriteOptions{Replicated: true})
	w.must(err)
	for _, r := range results {
		if r.Err != nil {
			w.t.Fatalf("%s: %v", r.ID, r.Err)
		}
	}
}

func (w *world) limited(db couch.DB, selector string, ids []string) *filtered {
	w.t.Helper()
	var raw json.RawMessage
	if selector != "" {
		raw = json.RawMessage(selector)
	}
	l, err := newLimits(raw, ids)
	w.must(err)
	return &filtered{db: db, limits: *l}
}

// What is hidden is marked: ids and revisions with the one, contents and names of attachments with the other.
const hiddenMark, secretMark = "hidden", "secret"

// leaks reports whether a text tells of something hidden that was not asked by its name.
func leaks(text, asked string) bool {
	return strings.Contains(text, secretMark) && !strings.Contains(asked, secretMark) ||
		strings.Contains(text, hiddenMark) && !strings.Contains(asked, hiddenMark)
}

// mixed makes a database with documents that are seen and documents that are not:
// single ones, branches, tombstones, ones that have left the limits and come back.
func (w *world) mixed(name string) couch.DB {
	w.t.Helper()
	db := w.db(name)
	att := func(d *couch.Doc, name, text string) *couch.Doc {
		d.Attachments = []couch.Attachment{{Name: name, ContentType: "text/plain", Length: int64(len(text)), Data: []byte(text)}}
		return d
	}
	dead := func(d *couch.Doc) *couch.Doc { d.Deleted = true; return d }
	w.graft(db,
		att(revision("seen", 1, []string{"a1"}, `{"open":true,"n":1}`), "note", "hello"),
		att(revision("hidden", 1, []string{"hiddena1"}, `{"open":false,"text":"secret"}`), "secret-file", "secret bytes"),
		// The winner is seen, a branch is not.
		revision("seen-branch", 2, []string{"f2", "a1"}, `{"open":true}`),
		revision("seen-branch", 2, []string{"hiddenb2", "a1"}, `{"text":"secret"}`),
		// The winner is not seen, a branch is.
		revision("seen-below", 2, []string{"a2", "a1"}, `{"open":true}`),
		revision("seen-below", 3, []string{"hiddenz3", "b2", "a1"}, `{"text":"secret"}`),
		// Both are seen.
		revision("seen-both", 2, []string{"x2", "a1"}, `{"open":true,"of":"x"}`),
		revision("seen-both", 2, []string{"y2", "a1"}, `{"open":true,"of":"y"}`),
		// Left the limits.
		att(revision("left-hidden", 1, []string{"a1"}, `{"open":true}`), "later", "text"),
		revision("left-hidden", 2, []string{"hiddenb2", "a1"}, `{"open":false,"text":"secret"}`),
		// Came into them: its past is not seen.
		att(revision("seen-now", 1, []string{"a1"}, `{"text":"secret"}`), "secret-before", "secret"),
		revision("seen-now", 2, []string{"b2", "a1"}, `{"open":true}`),
		// Deleted.
		revision("seen-dead", 1, []string{"a1"}, `{"open":true}`),
		dead(revision("seen-dead", 2, []string{"b2", "a1"}, `{"last":"secret"}`)),
		revision("hidden-dead", 1, []string{"hiddena1"}, `{"text":"secret"}`),
		dead(revision("hidden-dead", 2, []string{"hiddenb2", "hiddena1"}, `{}`)),
		dead(revision("hidden-stone", 1, []string{"hiddena1"}, `{}`)),
	)
	return db
}

var (
	mixedLive = []string{"seen", "seen-below", "seen-both", "seen-branch", "seen-now"}
	mixedDead = []string{"seen-dead"}
	mixedIDs  = []string{"seen", "hidden", "seen-branch", "seen-below", "seen-both", "left-hidden", "seen-now", "seen-dead", "hidden-dead", "hidden-stone", "nothing"}
)

// Every method of couch.DB is asked for all there is, hidden documents by their names
// and revisions, and says nothing of them. A new method fails this test.
func TestFilteredDatabaseTellsNothingHidden(t *testing.T) {
	w := newWorld(t)
	db := w.mixed("notes")
	f := w.limited(db, openSelector, nil)
	show := func(v any) string { b, _ := json.Marshal(v); return fmt.Sprintf("%s %+v", b, v) }
	revs := func(id string) (all []couch.Rev) {
		err := db.BulkGet(w.ctx, []couch.DocRef{{ID: id}}, couch.GetOptions{Revs: true}, func(r couch.BulkGetResult) error {
			if r.Doc == nil {
				return nil
			}
			for i := range r.Doc.Ancestry() {
				all = append(all, couch.Rev{Gen: r.Doc.Rev.Gen - int64(i), Hash: r.Doc.Revisions[i]})
			}
			return nil
		})
		w.must(err)
		return all
	}
	every := couch.GetOptions{Conflicts: true, Attachments: true, LocalSeq: true}
	asked := map[string]func() []any{
		"Info": func() []any {
			i, err := f.Info(w.ctx)
			w.must(err)
			if i.DocCount != int64(len(mixedLive)) || i.DelCount != int64(len(mixedDead)) || i.FileSize != 0 || i.ActiveSize != 0 {
				t.Errorf("Info: %+v", i)
			}
			return []any{i}
		},
		"Get": func() (out []any) {
			for _, id := range mixedIDs {
				d, err := f.Get(w.ctx, id, every)
				out = append(out, d, err)
				if live := slices.Contains(mixedLive, id); (err == nil) != live {
					t.Errorf("Get %s: %v", id, err)
				}
				for _, r := range revs(id) {
					if id == "left-hidden" && r.Gen == 1 {
						continue // it was seen, and still is by who knows of it
					}
					o := every
					o.Rev = r
					d, err := f.Get(w.ctx, id, o)
					if d != nil && d.Rev != r {
						t.Errorf("Get %s %s: %s", id, r, d.Rev)
					}
					o.Latest = true
					latest, lerr := f.Get(w.ctx, id, o)
					out = append(out, d, err, latest, lerr)
				}
			}
			return out
		},
		"BulkGet": func() (out []any) {
			var refs []couch.DocRef
			for _, id := range mixedIDs {
				refs = append(refs, couch.DocRef{ID: id})
				for _, r := range revs(id) {
					if id == "left-hidden" && r.Gen == 1 {
						continue
					}
					refs = append(refs, couch.DocRef{ID: id, Rev: r})
				}
			}
			answered := map[string]string{}
			w.must(f.BulkGet(w.ctx, refs, every, func(r couch.BulkGetResult) error {
				if r.Err != nil {
					answered[r.ID+r.Rev.String()] += "missing "
				} else {
					answered[r.ID+r.Rev.String()] += "found "
				}
				out = append(out, r.Doc, r.Err)
				return nil
			}))
			for _, r := range refs {
				// That there is a leaf which is not seen must not show beside one that is.
				if a := answered[r.ID+r.Rev.String()]; a == "" || strings.Contains(a, "found") && strings.Contains(a, "missing") || r.Rev.IsZero() && strings.Count(a, "missing") > 1 {
					t.Errorf("BulkGet %+v: %q", r, a)
				}
			}
			return out
		},
		"Changes": func() (out []any) {
			for _, o := range []couch.ChangesOptions{
				{}, {AllLeaves: true, IncludeDocs: true, Conflicts: true, Attachments: true}, {Descending: true, IncludeDocs: true},
				{DocIDs: mixedIDs, IncludeDocs: true}, {Selector: json.RawMessage(`{"text":"secret"}`), IncludeDocs: true}, {Limit: 2, AllLeaves: true},
				{Selector: json.RawMessage(`{}`), AllLeaves: true},
			} {
				res, err := f.Changes(w.ctx, o, func(c *couch.Change) error {
					out = append(out, *c)
					return nil
				})
				w.must(err)
				if o.Limit == 0 && res.Pending > 0 {
					t.Errorf("Changes %+v: %d pending", o, res.Pending)
				}
			}
			if _, err := f.Changes(w.ctx, couch.ChangesOptions{Filter: "a/b"}, nil); couch.AsError(err).Status != 400 {
				t.Errorf("a filter function: %v", err)
			}
			return out
		},
		"AllDocs": func() (out []any) {
			hidden, two := "hidden", 2
			for _, o := range []couch.AllDocsOptions{
				{}, {IncludeDocs: true, Conflicts: true, Attachments: true}, {Keys: append([]string{"gone"}, mixedIDs[:10]...), IncludeDocs: true, Conflicts: true},
				{StartKey: &hidden, IncludeDocs: true}, {Descending: true}, {Skip: 1, Limit: &two},
			} {
				var rows []any
				res, err := f.AllDocs(w.ctx, o, func(r *couch.Row) error {
					if o.Keys != nil && r.Err != "" {
						return nil // says what was asked
					}
					rows = append(rows, *r, r.Doc)
					return nil
				})
				w.must(err)
				if res.Total != int64(len(mixedLive)) {
					t.Errorf("AllDocs %+v: %+v", o, res)
				}
				out = append(out, rows...)
			}
			return out
		},
		"Find": func() (out []any) {
			for _, q := range []string{`{"selector":{}}`, `{"selector":{"text":"secret"}}`, `{"selector":{"_id":{"$gte":"hidden"}}}`} {
				_, err := f.Find(w.ctx, json.RawMessage(q), func(d json.RawMessage) error { out = append(out, string(d)); return nil })
				w.must(err)
			}
			return out
		},
		"RevsDiff": func() []any {
			for _, id := range mixedIDs {
				for _, r := range append(revs(id), couch.Rev{Gen: 9, Hash: "z"}) {
					diffs, err := f.RevsDiff(w.ctx, []couch.DocRevs{{ID: id, Revs: []couch.Rev{r}}})
					w.must(err)
					_, err = f.Get(w.ctx, id, couch.GetOptions{Rev: r})
					if known := err == nil || strings.HasPrefix(id, "seen-b") && r.Hash == "a1"; known != (len(diffs) == 0) { // an ancestor of what is seen
						t.Errorf("RevsDiff %s %s: %+v, Get: %v", id, r, diffs, err)
					}
					for _, d := range diffs {
						if leaks(show(d.PossibleAncestors), "") {
							t.Errorf("RevsDiff %s: %+v", id, d)
						}
					}
				}
			}
			return nil
		},
		"Attachment": func() (out []any) {
			for _, id := range mixedIDs {
				for _, name := range []string{"note", "secret-file", "later", "secret-before"} {
					for _, r := range append(revs(id), couch.Rev{}) {
						if name == "later" && r.Gen == 1 {
							continue // of a revision that was seen
						}
						a, err := f.Attachment(w.ctx, id, name, r, 0)
						if (err == nil) != (id == "seen" && name == "note") {
							t.Errorf("Attachment %s %s %s: %v", id, r, name, err)
						}
						out = append(out, a, err)
					}
				}
			}
			return out
		},
		"Security":    func() []any { s, err := f.Security(w.ctx); return []any{s, err} },
		"SetSecurity": func() []any { return []any{f.SetSecurity(w.ctx, nil)} },
		"Purge":       func() []any { p, err := f.Purge(w.ctx, []couch.DocRevs{{ID: "x"}}); return []any{p, err} },
		"Compact":     func() []any { return []any{f.Compact(w.ctx)} },
		// Decided elsewhere: TestFilteredWrites; TestLocalsOfPeers.
		"BulkDocs": nil, "GetLocal": nil, "PutLocal": nil,
	}
	for m := range reflect.TypeFor[couch.DB]().Methods() {
		ask, known := asked[m.Name]
		if !known {
			t.Errorf("couch.DB.%s: what does it show of a filtered share?", m.Name)
		}
		if ask == nil {
			continue
		}
		for _, v := range ask() {
			if text := show(v); leaks(text, "") {
				t.Errorf("%s tells %s", m.Name, text)
			}
		}
	}
	for name, err := range map[string]error{"Security": f.SetSecurity(w.ctx, nil), "Compact": f.Compact(w.ctx)} {
		if status(err) != 403 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The rows of the feed are the documents' leaves that are seen.
func TestFilteredChanges(t *testing.T) {
	w := newWorld(t)
	f := w.limited(w.mixed("notes"), openSelector, nil)
	got := map[string]string{}
	_, err := f.Changes(w.ctx, couch.ChangesOptions{AllLeaves: true}, func(c *couch.Change) error {
		got[c.ID] = fmt.Sprint(c.Revs, c.Deleted)
		return nil
	})
	w.must(err)
	want := map[string]string{
		"seen": "[1-a1] false", "seen-branch": "[2-f2] false", "seen-below": "[2-a2] false", "seen-both": "[2-y2 2-x2] false",
		"seen-now": "[2-b2] false", "seen-dead": "[2-b2] true",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	d, err := f.Get(w.ctx, "seen-below", couch.GetOptions{Conflicts: true})
	w.must(err)
	if d.Rev.String() != "2-a2" || len(d.Conflicts) != 0 {
		t.Errorf("%+v", d)
	}
	if _, err := f.Get(w.ctx, "seen-dead", couch.GetOptions{}); couch.AsError(err).Reason != "deleted" {
		t.Error(err)
	}
	stone, err := f.Get(w.ctx, "seen-dead", couch.GetOptions{Rev: couch.Rev{Gen: 2, Hash: "b2"}})
	w.must(err)
	if says(stone) || !stone.Deleted {
		t.Errorf("%+v", stone)
	}
}

// A feed that waits is woken by what is seen only.
func TestFilteredLongpoll(t *testing.T) {
	w := newWorld(t)
	db := w.db("notes")
	f := w.limited(db, openSelector, nil)
	w.graft(db, revision("hidden1", 1, []string{"a"}, `{}`), revision("hidden2", 1, []string{"a"}, `{}`))
	rows := make(chan string, 10)
	done := make(chan error, 1)
	go func() {
		_, err := f.Changes(w.ctx, couch.ChangesOptions{Feed: couch.FeedLongpoll}, func(c *couch.Change) error {
			rows <- c.ID
			return nil
		})
		done <- err
	}()
	w.graft(db, revision("seen", 1, []string{"a"}, `{"open":true}`))
	w.must(<-done)
	if len(rows) == 0 {
		t.Fatal("woken by what is not seen")
	}
	if id := <-rows; id != "seen" || len(rows) > 0 {
		t.Errorf("told of %s", id)
	}
}

// Counts follow the changes: documents that come, change, leave and are deleted.
func TestFilteredCounts(t *testing.T) {
	w := newWorld(t)
	db := w.db("notes")
	f := w.limited(db, openSelector, nil)
	check := func(docs, dels int64) {
		t.Helper()
		i, err := f.Info(w.ctx)
		w.must(err)
		if i.DocCount != docs || i.DelCount != dels {
			t.Errorf("%d documents, %d deleted; want %d and %d", i.DocCount, i.DelCount, docs, dels)
		}
	}
	check(0, 0)
	w.graft(db, revision("a", 1, []string{"a"}, `{"open":true}`), revision("b", 1, []string{"a"}, `{}`), revision("c", 1, []string{"a"}, `{"open":true}`))
	check(2, 0)
	w.graft(db, revision("a", 2, []string{"b", "a"}, `{}`), revision("b", 2, []string{"b", "a"}, `{"open":true}`))
	check(2, 0)
	stone := revision("c", 2, []string{"b", "a"}, `{}`)
	stone.Deleted = true
	w.graft(db, stone)
	check(1, 1)
	_, err := db.Purge(w.ctx, []couch.DocRevs{{ID: "b", Revs: []couch.Rev{{Gen: 2, Hash: "b"}}}, {ID: "c", Revs: []couch.Rev{{Gen: 2, Hash: "b"}}}})
	w.must(err)
	check(0, 0)
}

// What may be written, and that answers do not tell hidden documents from what is beyond the limits.
func TestFilteredWrites(t *testing.T) {
	w := newWorld(t)
	db := w.mixed("notes")
	f := w.limited(db, openSelector, nil)
	dead := func(d *couch.Doc) *couch.Doc { d.Deleted = true; return d }
	stub := func(d *couch.Doc, name string) *couch.Doc {
		d.Attachments = []couch.Attachment{{Name: name, ContentType: "text/plain", Length: -1, RevPos: 1}}
		return d
	}
	for _, tt := range []struct {
		name       string
		doc        *couch.Doc
		replicated bool
		status     int // 0: written
	}{
		{"new", &couch.Doc{ID: "new", Body: json.RawMessage(`{"open":true}`)}, false, 0},
		{"new beyond", &couch.Doc{ID: "new2", Body: json.RawMessage(`{"open":false}`)}, false, 403},
		{"new, pushed", revision("new3", 1, []string{"p1"}, `{"open":true}`), true, 0},
		{"new beyond, pushed", revision("new4", 1, []string{"p1"}, `{}`), true, 403},
		{"edit", &couch.Doc{ID: "seen", Rev: couch.Rev{Gen: 1, Hash: "a1"}, Body: json.RawMessage(`{"open":true}`)}, false, 0},
		{"edit of a stale revision", &couch.Doc{ID: "seen", Rev: couch.Rev{Gen: 1, Hash: "a1"}, Body: json.RawMessage(`{"open":true}`)}, false, 409},
		{"edit that leaves", &couch.Doc{ID: "seen-now", Rev: couch.Rev{Gen: 2, Hash: "b2"}, Body: json.RawMessage(`{}`)}, false, 403},
		{"over a hidden one", &couch.Doc{ID: "hidden", Body: json.RawMessage(`{"open":true}`)}, false, 403},
		{"over a hidden one, with its revision", &couch.Doc{ID: "hidden", Rev: couch.Rev{Gen: 1, Hash: "hiddena1"}, Body: json.RawMessage(`{"open":true}`)}, false, 409},
		{"over an absent one, with a revision", &couch.Doc{ID: "absent", Rev: couch.Rev{Gen: 1, Hash: "a1"}, Body: json.RawMessage(`{"open":true}`)}, false, 409},
		{"over a hidden one, beyond", &couch.Doc{ID: "hidden", Body: json.RawMessage(`{}`)}, false, 403},
		{"push onto a hidden one", revision("hidden", 2, []string{"p2", "hiddena1"}, `{"open":true}`), true, 403},
		{"push beside a hidden one", revision("hidden", 2, []string{"p2", "p1"}, `{"open":true}`), true, 403},
		{"push of a hidden revision", revision("hidden", 1, []string{"hiddena1"}, `{"open":true}`), true, 403},
		{"push onto a hidden branch", revision("seen-branch", 3, []string{"p3", "hiddenb2", "a1"}, `{"open":true}`), true, 403},
		{"edit of a hidden branch", &couch.Doc{ID: "seen-branch", Rev: couch.Rev{Gen: 2, Hash: "hiddenb2"}, Body: json.RawMessage(`{"open":true}`)}, false, 409},
		{"push onto a seen branch", revision("seen-branch", 3, []string{"p3", "f2", "a1"}, `{"open":true}`), true, 0},
		{"delete", dead(&couch.Doc{ID: "seen-now", Rev: couch.Rev{Gen: 2, Hash: "b2"}}), false, 0},
		{"delete, pushed", dead(revision("seen-both", 3, []string{"p3", "y2", "a1"}, `{}`)), true, 0},
		{"delete with words", dead(revision("seen-both", 3, []string{"q3", "x2", "a1"}, `{"a":1}`)), true, 403},
		{"delete a hidden one", dead(&couch.Doc{ID: "hidden", Rev: couch.Rev{Gen: 1, Hash: "hiddena1"}}), false, 403},
		{"delete an absent one", dead(&couch.Doc{ID: "absent", Rev: couch.Rev{Gen: 1, Hash: "a1"}}), false, 403},
		{"delete a hidden one, pushed", dead(revision("hidden", 2, []string{"p2", "hiddena1"}, `{}`)), true, 403},
		// A stub stands for an attachment that is seen, never for one of a hidden revision.
		{"stub of a hidden ancestor", stub(revision("seen-below", 4, []string{"p4", "p3", "a2", "a1"}, `{"open":true}`), "secret-before"), true, 412},
		{"stub of a hidden one's attachment", stub(revision("new5", 1, []string{"p1"}, `{"open":true}`), "secret-file"), true, 412},
	} {
		results, err := f.BulkDocs(w.ctx, []*couch.Doc{tt.doc}, couch.WriteOptions{Replicated: tt.replicated})
		w.must(err)
		got := 0
		if e := results[0].Err; e != nil {
			got = e.Status
			if e.Status == 403 && e.Reason != errOutside.Reason {
				t.Errorf("%s: %v", tt.name, e)
			}
		}
		if got != tt.status {
			t.Errorf("%s: %d %v, want %d", tt.name, got, results[0].Err, tt.status)
		}
	}
	if d, err := db.Get(w.ctx, "hidden", couch.GetOptions{Conflicts: true}); err != nil || d.Rev.Hash != "hiddena1" || len(d.Conflicts) > 0 {
		t.Errorf("the hidden document: %+v, %v", d, err)
	}
}

// An attachment of a hidden ancestor is not had by a stub that names it.
func TestFilteredStubs(t *testing.T) {
	w := newWorld(t)
	db := w.mixed("notes")
	f := w.limited(db, openSelector, nil)
	d := revision("seen-now", 3, []string{"p3", "b2", "a1"}, `{"open":true}`)
	d.Attachments = []couch.Attachment{{Name: "secret-before", ContentType: "text/plain", Length: 6, RevPos: 1}}
	results, err := f.BulkDocs(w.ctx, []*couch.Doc{d}, couch.WriteOptions{Replicated: true})
	w.must(err)
	if results[0].Err == nil || results[0].Err.Status != 412 {
		t.Errorf("%+v", results)
	}
	// One that is seen is kept.
	d = revision("seen", 2, []string{"p2", "a1"}, `{"open":true}`)
	d.Attachments = []couch.Attachment{{Name: "note", ContentType: "text/plain", Length: -1, RevPos: 1}}
	results, err = f.BulkDocs(w.ctx, []*couch.Doc{d}, couch.WriteOptions{Replicated: true})
	w.must(err)
	a, err := f.Attachment(w.ctx, "seen", "note", couch.Rev{}, 0)
	if err != nil || results[0].Err != nil || a.RevPos != 1 || a.Length != 5 {
		t.Errorf("%+v, %v, %+v", a, err, results)
	}
}

// Every endpoint of the HTTP API is asked for hidden documents by a peer and says nothing of them.
// A new endpoint fails this test until it is asked here.
func TestFilteredShareTellsNothingHiddenOverHTTP(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.join(nil), w.join(nil)
	w.mixed("notes")
	s, err := alice.Share(w.ctx, kivikDB(w, "notes"), ShareOptions{Selector: json.RawMessage(openSelector)})
	w.must(err)
	r := w.open(bob, s.ID())
	if i := r.Info(); !i.Filtered || i.DocCount != int64(len(mixedLive)) {
		t.Errorf("the hub says %+v", i)
	}
	ids, _ := json.Marshal(mixedIDs)
	refs := func(rev string) string {
		var docs []string
		for _, id := range mixedIDs {
			docs = append(docs, fmt.Sprintf(`{"id":%q%s}`, id, rev))
		}
		return `{"docs":[` + strings.Join(docs, ",") + `]}`
	}
	requests := map[string][][2]string{ // by endpoint: path and body
		"GET /": {{"/", ""}}, "GET /_up": {{"/_up", ""}}, "GET /_uuids": {{"/_uuids", ""}}, "GET /_all_dbs": {{"/_all_dbs", ""}}, "GET /_active_tasks": {{"/_active_tasks", ""}},
		"GET /_dbs_info": {{"/_dbs_info", ""}}, "POST /_dbs_info": {{"/_dbs_info", `{"keys":["notes"]}`}}, "GET /_membership": {{"/_membership", ""}},
		"GET /:db": {{"/notes", ""}}, "PUT /:db": {{"/notes", ""}}, "DELETE /:db": {{"/notes", ""}},
		"POST /:db":            {{"/notes", `{"_id":"hidden","x":1}`}, {"/notes", `{"_id":"hidden","open":true}`}},
		"POST /:db/_bulk_docs": {{"/notes/_bulk_docs", `{"docs":[{"_id":"h","_rev":"1-x"}]}`}},
		"POST /:db/_bulk_get":  {{"/notes/_bulk_get?revs=true", refs("")}, {"/notes/_bulk_get", refs(`,"rev":"1-hiddena1"`)}, {"/notes/_bulk_get?latest=true", refs(`,"rev":"1-a1"`)}},
		"GET /:db/_all_docs":   {{"/notes/_all_docs?include_docs=true&conflicts=true", ""}, {`/notes/_all_docs?startkey="hidden"`, ""}}, "POST /:db/_all_docs": {{"/notes/_all_docs?include_docs=true", `{"keys":` + string(ids) + `}`}},
		"POST /:db/_all_docs/queries":    {{"/notes/_all_docs/queries?include_docs=true&conflicts=true", `{"queries":[{"keys":` + string(ids) + `},{}]}`}},
		"POST /:db/_design_docs/queries": {{"/notes/_design_docs/queries", `{"queries":[{"keys":` + string(ids) + `},{}]}`}},
		"POST /:db/_compact/:index":      {{"/notes/_compact/x", "{}"}}, "POST /:db/_view_cleanup": {{"/notes/_view_cleanup", "{}"}},
		"GET /:db/_design_docs": {{"/notes/_design_docs", ""}}, "POST /:db/_design_docs": {{"/notes/_design_docs?include_docs=true", `{"keys":` + string(ids) + `}`}},
		"GET /:db/_changes":       {{"/notes/_changes?style=all_docs&include_docs=true&conflicts=true", ""}, {"/notes/_changes?feed=longpoll&include_docs=true", ""}, {"/notes/_changes?feed=continuous&timeout=50&include_docs=true", ""}, {"/notes/_changes?feed=eventsource&timeout=50", ""}, {"/notes/_changes?descending=true", ""}, {"/notes/_changes?filter=a/b", ""}},
		"POST /:db/_changes":      {{"/notes/_changes?filter=_doc_ids&include_docs=true", `{"doc_ids":` + string(ids) + `}`}, {"/notes/_changes?filter=_selector", `{"selector":{"text":"secret"}}`}},
		"POST /:db/_revs_diff":    {{"/notes/_revs_diff", `{"seen":["9-z"],"seen-branch":["9-z"]}`}, {"/notes/_revs_diff", `{"hidden":["1-hiddena1","9-z"],"hidden-dead":["2-hiddenb2"]}`}},
		"POST /:db/_missing_revs": {{"/notes/_missing_revs", `{"seen":["9-z"]}`}, {"/notes/_missing_revs", `{"hidden":["1-hiddena1","9-z"]}`}},
		"POST /:db/_find":         {{"/notes/_find", `{"selector":{}}`}, {"/notes/_find", `{"selector":{"text":{"$exists":true}}}`}},
		"POST /:db/_explain":      {{"/notes/_explain", `{"selector":{}}`}}, "GET /:db/_index": {{"/notes/_index", ""}},
		"GET /:db/_security": {{"/notes/_security", ""}}, "PUT /:db/_security": {{"/notes/_security", "{}"}}, "GET /:db/_revs_limit": {{"/notes/_revs_limit", ""}},
		"POST /:db/_purge": {{"/notes/_purge", `{"left":["2-b"]}`}}, "POST /:db/_compact": {{"/notes/_compact", "{}"}}, "POST /:db/_ensure_full_commit": {{"/notes/_ensure_full_commit", "{}"}},
	}
	for _, path := range []string{"GET /:db/_local", "PUT /:db/_local", "DELETE /:db/_local", "GET /:db/_local/:local", "PUT /:db/_local/:local", "DELETE /:db/_local/:local", "GET /:db/_local/:local/*", "PUT /:db/_local/:local/*", "DELETE /:db/_local/:local/*"} {
		requests[path] = [][2]string{{"/notes/_local/x", "{}"}}
	}
	for _, method := range []string{"GET", "POST", "PUT", "DELETE", "COPY"} {
		requests[method+" /:db/_design/:ddoc"] = [][2]string{{"/notes/_design/x", "{}"}}
		requests[method+" /:db/_design/:ddoc/*"] = [][2]string{{"/notes/_design/x/y", ""}}
		for _, id := range mixedIDs {
			for _, q := range []string{"", "?rev=1-hiddena1", "?rev=2-hiddenb2&latest=true", "?open_revs=all&revs=true", `?open_revs=["1-hiddena1","2-hiddenb2","3-hiddenz3"]`, "?conflicts=true&revs_info=true&attachments=true"} {
				if method != "GET" && (q != "" || id != "hidden") {
					continue
				}
				requests[method+" /:db/:doc"] = append(requests[method+" /:db/:doc"], [2]string{"/notes/" + id + q, `{"open":true}`})
			}
			if method == "GET" && id != "left-hidden" || id == "hidden" {
				requests[method+" /:db/:doc/*"] = append(requests[method+" /:db/:doc/*"], [2]string{"/notes/" + id + "/secret-file", ""}, [2]string{"/notes/" + id + "/secret-file?rev=1-hiddena1", "x"}, [2]string{"/notes/" + id + "/secret-before?rev=1-a1", ""})
			}
		}
	}
	for _, e := range s.api.Endpoints() {
		method := strings.Replace(e.Method, "HEAD", "GET", 1)
		all, known := requests[method+" "+e.Path]
		if !known {
			t.Errorf("%s %s: what does it show of a filtered share?", e.Method, e.Path)
		}
		for _, q := range all {
			resp, body := r.ask(t, e.Method, q[0], q[1])
			if leaks(body, q[0]+q[1]) || leaks(fmt.Sprint(resp.Header), q[0]+q[1]) {
				t.Errorf("%s %s: %s %v\n%s", e.Method, q[0], resp.Status, resp.Header, body)
			}
			if e.Op != couchhttp.OpRead || !strings.Contains(q[0]+q[1], hiddenMark) {
				continue
			}
			// It is as if it were not there.
			absent := strings.NewReplacer(hiddenMark, "absent")
			resp2, body2 := r.ask(t, e.Method, absent.Replace(q[0]), absent.Replace(q[1]))
			if resp.StatusCode != resp2.StatusCode || absent.Replace(body) != absent.Replace(body2) {
				t.Errorf("%s %s %s: %s\n%s\nof an absent one: %s\n%s", e.Method, q[0], q[1], resp.Status, body, resp2.Status, body2)
			}
		}
	}
}

// Nor does a body in parts, in an answer or of a page's form.
func TestFilteredShareTellsNothingHiddenInParts(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.join(nil), w.join(nil)
	db := w.mixed("notes")
	s, err := alice.Share(w.ctx, kivikDB(w, "notes"), ShareOptions{Selector: json.RawMessage(openSelector)})
	w.must(err)
	r := w.open(bob, s.ID())
	const all, form = "Accept: multipart/mixed, multipart/related", "Content-Type: multipart/form-data; boundary=x"
	field := func(name, text string) string {
		return "--x\r\nContent-Disposition: form-data; name=\"" + name + "\"\r\n\r\n" + text + "\r\n"
	}
	file := "--x\r\nContent-Disposition: form-data; name=\"_attachments\"; filename=\"f\"\r\n\r\nmine\r\n--x--\r\n"
	for _, tt := range []struct{ method, path, body, header, kind string }{
		{"POST", "/notes/_bulk_get?revs=true&attachments=true", `{"docs":[{"id":"hidden"},{"id":"seen"},{"id":"seen-branch"}]}`, all, "multipart/mixed"},
		{"POST", "/notes/_bulk_get", `{"docs":[{"id":"hidden","rev":"1-hiddena1"},{"id":"seen-now","rev":"1-a1"}]}`, all, "multipart/mixed"},
		{"GET", "/notes/seen-branch?open_revs=all&revs=true", "", all, "multipart/mixed"},
		{"GET", `/notes/hidden?open_revs=["1-hiddena1"]&attachments=true`, "", all, "multipart/mixed"},
		{"GET", "/notes/seen?attachments=true", "", all, "multipart/related"},
		{"GET", "/notes/hidden?attachments=true&rev=1-hiddena1", "", all, "application/json"},
		{"POST", "/notes/hidden", field("_rev", "1-hiddena1") + file, form, "application/json"},
		{"POST", "/notes/hidden", field("_doc", `{"_rev":"1-hiddena1","open":true}`) + file, form, "application/json"},
		{"POST", "/notes/seen-now", field("_rev", "1-a1") + file, form, "application/json"},
		{"COPY", "/notes/hidden?rev=1-hiddena1", "", "Destination: seen-copy", "application/json"},
		{"COPY", "/notes/seen", "", "Destination: hidden?rev=1-hiddena1", "application/json"},
	} {
		resp, body := r.ask(t, tt.method, tt.path, tt.body, tt.header, "Referer: http://"+r.id+"/")
		if !strings.HasPrefix(resp.Header.Get("Content-Type"), tt.kind) {
			t.Errorf("%s %s: %s %s", tt.method, tt.path, resp.Status, resp.Header.Get("Content-Type"))
		}
		if leaks(body, tt.path+tt.body+tt.header) || leaks(fmt.Sprint(resp.Header), tt.path+tt.body+tt.header) {
			t.Errorf("%s %s: %s\n%s", tt.method, tt.path, resp.Status, body)
		}
		if tt.method != "GET" && tt.header != all && resp.StatusCode < 400 {
			t.Errorf("%s %s %s: %s %s", tt.method, tt.path, tt.header, resp.Status, body)
		}
	}
	if d, err := db.Get(w.ctx, "hidden", couch.GetOptions{Conflicts: true}); err != nil || d.Rev.Hash != "hiddena1" || len(d.Conflicts) > 0 {
		t.Errorf("the hidden document: %+v, %v", d, err)
	}
}

// A complete replica of a filtered share has what the share shows, also after
// changes of all kinds; only what has left the limits stays in it.
func TestFilteredShareReplicates(t *testing.T) {
	w := newWorld(t)
	db := w.db("source")
	limits := w.limited(db, openSelector, nil)
	replica := w.create("replica")
	source := couchkivik.DB(DriverName, oneStore{"source", limits}, "source")
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		ids := []string{fmt.Sprint("a", n), fmt.Sprint("b", n)}
		for range rapid.IntRange(1, 3).Draw(rt, "rounds") {
			for range rapid.IntRange(1, 8).Draw(rt, "writes") {
				writeSomething(rt, w, db, rapid.SampledFrom(ids).Draw(rt, "id"))
			}
			_, err := replicate.Run(w.ctx, source, replica, replicate.Options{})
			w.must(err)
			same(rt, w, limits, couchkivik.From(replica), ids)
		}
	})
}

// writeSomething grafts a leaf onto a random document: an edit, a branch or a deletion.
func writeSomething(rt *rapid.T, w *world, db couch.DB, id string) {
	var leaves []*couch.Doc
	_ = db.BulkGet(w.ctx, []couch.DocRef{{ID: id}}, couch.GetOptions{Revs: true}, func(r couch.BulkGetResult) error {
		if r.Doc != nil {
			leaves = append(leaves, r.Doc)
		}
		return nil
	})
	hash := rapid.StringMatching(`[0-9a-f]{8}`).Draw(rt, "hash")
	d := &couch.Doc{ID: id, Rev: couch.Rev{Gen: 1, Hash: hash}, Revisions: []string{hash}}
	if len(leaves) > 0 && rapid.IntRange(0, 4).Draw(rt, "branch") > 0 {
		on := rapid.SampledFrom(leaves).Draw(rt, "leaf")
		d.Rev.Gen, d.Revisions = on.Rev.Gen+1, append(d.Revisions, on.Revisions...)
	}
	switch rapid.IntRange(0, 5).Draw(rt, "kind") {
	case 0:
		d.Deleted = true
	case 1:
		d.Body = json.RawMessage(`{"open":false}`)
	default:
		d.Body = json.RawMessage(`{"open":true,"h":"` + hash + `"}`)
	}
	w.graft(db, d)
}

// same compares what the share shows with its replica: the leaves that are seen are all in
// the replica, and the replica has no content that the share would not show.
func same(rt *rapid.T, w *world, f *filtered, replica couch.DB, ids []string) {
	for _, id := range ids {
		seen, err := f.leaves(w.ctx, id)
		w.must(err)
		for _, leaf := range seen {
			d, err := replica.Get(w.ctx, id, couch.GetOptions{Rev: leaf.Rev})
			if err != nil || string(d.Body) != string(leaf.Body) && says(leaf) || d.Deleted != leaf.Deleted {
				rt.Fatalf("%s %s: %+v, %v; the share has %+v", id, leaf.Rev, d, err, leaf)
			}
		}
		_ = replica.BulkGet(w.ctx, []couch.DocRef{{ID: id}}, couch.GetOptions{}, func(r couch.BulkGetResult) error {
			if r.Doc != nil && !r.Doc.Deleted && !strings.Contains(string(r.Doc.Body), `"open":true`) {
				rt.Fatalf("the replica has %s %s %s", id, r.Doc.Rev, r.Doc.Body)
			}
			return nil
		})
	}
}

// Limits by ids alone.
func TestFilteredByIDs(t *testing.T) {
	w := newWorld(t)
	db := w.db("notes")
	for _, id := range []string{"a", "b", "c", "d"} {
		w.graft(db, revision(id, 1, []string{"a1"}, `{"x":1}`))
	}
	f := w.limited(db, "", []string{"b", "d", "e"})
	var ids []string
	collect := func(o couch.AllDocsOptions) string {
		ids = nil
		_, err := f.AllDocs(w.ctx, o, func(r *couch.Row) error { ids = append(ids, r.ID+r.Err); return nil })
		w.must(err)
		return strings.Join(ids, " ")
	}
	b, d := "b", "d"
	for want, o := range map[string]couch.AllDocsOptions{
		"b d": {}, "d b": {Descending: true}, "d": {StartKey: &d}, "b": {EndKey: &d, ExclusiveEnd: true}, "d ": {}, "anot_found b": {Keys: []string{"a", "b"}}, " ": {StartKey: &b, EndKey: &b, ExclusiveEnd: true},
	} {
		if got := collect(o); got != strings.TrimSpace(want) && want != "d " {
			t.Errorf("%+v: %q, want %q", o, got, want)
		}
	}
	if i, err := f.Info(w.ctx); err != nil || i.DocCount != 2 {
		t.Errorf("%+v, %v", i, err)
	}
	for id, want := range map[string]int{"a": 403, "e": 0, "x": 403, "b": 409} {
		results, err := f.BulkDocs(w.ctx, []*couch.Doc{{ID: id, Body: json.RawMessage(`{}`)}}, couch.WriteOptions{})
		w.must(err)
		got := 0
		if results[0].Err != nil {
			got = results[0].Err.Status
		}
		if got != want {
			t.Errorf("write %s: %d, want %d", id, got, want)
		}
	}
	w.must(f.BulkGet(w.ctx, []couch.DocRef{{ID: "a"}, {ID: "b"}, {ID: "a", Rev: couch.Rev{Gen: 1, Hash: "a1"}}}, couch.GetOptions{}, func(r couch.BulkGetResult) error {
		if (r.Err == nil) != (r.ID == "b") {
			t.Errorf("BulkGet: %+v", r)
		}
		return nil
	}))
	if _, err := f.Get(w.ctx, "a", couch.GetOptions{Rev: couch.Rev{Gen: 1, Hash: "a1"}}); status(err) != 404 {
		t.Error(err)
	}
	told := ""
	_, err := f.Changes(w.ctx, couch.ChangesOptions{DocIDs: []string{"a", "b"}}, func(c *couch.Change) error { told += c.ID; return nil })
	if err != nil || told != "b" {
		t.Errorf("Changes: %q, %v", told, err)
	}
	diffs, err := f.RevsDiff(w.ctx, []couch.DocRevs{{ID: "a", Revs: []couch.Rev{{Gen: 1, Hash: "a1"}}}, {ID: "b", Revs: []couch.Rev{{Gen: 1, Hash: "a1"}}}})
	if err != nil || len(diffs) != 1 || diffs[0].ID != "a" {
		t.Errorf("%+v, %v", diffs, err)
	}
}

// A stub stands for the attachment of the branch that it goes on from, though another has one with the same digest.
func TestFilteredStubsThatCollide(t *testing.T) {
	const one = "d131dd02c5e6eec4693d9a0698aff95c2fcab58712467eab4004583eb8fb7f8955ad340609f4b30283e488832571415a085125e8f7cdc99fd91dbdf280373c5b" +
		"d8823e3156348f5bae6dacd436c919c6dd53e2b487da03fd02396306d248cda0e99f33420f577ee8ce54b67080a80d1ec69821bcb6a8839396f9652b6ff72a70"
	const two = "d131dd02c5e6eec4693d9a0698aff95c2fcab50712467eab4004583eb8fb7f8955ad340609f4b30283e4888325f1415a085125e8f7cdc99fd91dbd7280373c5b" +
		"d8823e3156348f5bae6dacd436c919c6dd53e23487da03fd02396306d248cda0e99f33420f577ee8ce54b67080280d1ec69821bcb6a8839396f965ab6ff72a70"
	w := newWorld(t)
	db := w.db("notes")
	f := w.limited(db, openSelector, nil)
	with := func(d *couch.Doc, text string) *couch.Doc {
		data, err := hex.DecodeString(text)
		w.must(err)
		d.Attachments = []couch.Attachment{{Name: "a", ContentType: "a/b", Length: -1, Data: data}}
		return d
	}
	w.graft(db, with(revision("a", 1, []string{"aa"}, `{"open":true}`), one), with(revision("a", 1, []string{"bb"}, `{"open":true}`), two))
	for hash, text := range map[string]string{"aa": one, "bb": two} {
		d := revision("a", 2, []string{"next" + hash, hash}, `{"open":true}`)
		digest, err := f.Get(w.ctx, "a", couch.GetOptions{Rev: couch.Rev{Gen: 1, Hash: hash}})
		w.must(err)
		d.Attachments = []couch.Attachment{{Name: "a", ContentType: "a/b", Digest: digest.Attachments[0].Digest, Length: 128, RevPos: 1}}
		results, err := f.BulkDocs(w.ctx, []*couch.Doc{d}, couch.WriteOptions{Replicated: true})
		w.must(err)
		if results[0].Err != nil {
			t.Fatal(results[0].Err)
		}
		a, err := f.Attachment(w.ctx, "a", "a", d.Rev, 0)
		w.must(err)
		r, err := a.Reader(w.ctx)
		w.must(err)
		got, err := io.ReadAll(r)
		w.must(err)
		w.must(r.Close())
		if hex.EncodeToString(got) != text {
			t.Errorf("the child of %s has the other content", hash)
		}
	}
}
