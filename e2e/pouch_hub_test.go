package e2e

import (
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

func inline(content string) string {
	return fmt.Sprintf(`{"content_type":"application/octet-stream","data":"%s"}`, base64.StdEncoding.EncodeToString([]byte(content)))
}

// bytes256 is every byte.
var bytes256 = func() string {
	b := make([]byte, 256)
	for i := range b {
		b[i] = byte(i)
	}
	return string(b)
}()

// TestPouchDBWithHub: a real PouchDB and the hub, and then a local database of ours, have the same
// documents, conflicts, tombstones and attachments after they synced.
func TestPouchDBWithHub(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hub := w.hub("hub")
	p := w.pouch()
	local, url, ours := w.path("pouch"), hub.url+"/notes", w.path("go/notes")
	p.call(url, "info", nil) // PouchDB makes the database itself
	ask[any](w, "PUT", url, "")

	w.fillPouchAndHub(p, local, url)
	c := p.sync(local, url)
	if c.Pushed.Written == 0 || c.Pulled.Written == 0 {
		t.Errorf("first sync: %+v", c)
	}
	inPouch := p.leaves(local)
	w.equal(map[string]leaves{"PouchDB": inPouch, "the hub": w.remote(url), "the hub through PouchDB": p.leaves(url)})
	if got, want := inPouch.conflicted(), []string{"alike", "clash", "clash with attachments", "three", "ünï ☃ 𝄞/%2F?#&+"}; !slices.Equal(got, want) {
		t.Errorf("conflicts in %q, want %q", got, want)
	}
	if c := p.sync(local, url); c.Pushed.Read+c.Pulled.Read != 0 {
		t.Errorf("second sync: %+v", c)
	}

	w.sync(ours, url)
	w.equal(map[string]leaves{"PouchDB": inPouch, "our local database": w.local("go/notes")})
	w.edit("go/notes", `{"_id":"clash","by":"us"}`, `{"_id":"from us","_attachments":{"ы":`+inline(bytes256)+`}}`, `{"_id":"plain 1","_deleted":true}`)
	w.sync(ours, url)
	p.sync(local, url)
	w.equal(map[string]leaves{"PouchDB": p.leaves(local), "our local database": w.local("go/notes"), "the hub": w.remote(url)})
}

// fillPouchAndHub writes different documents into a PouchDB and a hub's database, in all the ways PouchDB has.
func (w *world) fillPouchAndHub(p *pouch, local, url string) {
	w.Helper()
	var many []string
	for i := range 300 {
		many = append(many, fmt.Sprintf(`{"_id":"plain %d","n":%d,"text":"%s"}`, i, i, strings.Repeat("lorem ", i)))
	}
	p.bulk(local, many...)
	for side, db := range map[string]string{"pouch": local, "hub": url} {
		p.bulk(db,
			`{"_id":"only `+side+`","by":"`+side+`"}`,
			`{"_id":"clash","by":"`+side+`"}`,
			`{"_id":"clash with attachments","_attachments":{"a":`+inline(side)+`,"same":`+inline("same")+`}}`,
			`{"_id":"alike","alike":true}`, // PouchDB makes another revision of it than we do
			`{"_id":"deleted by `+side+`","x":1}`,
			`{"_id":"ünï ☃ 𝄞/%2F?#&+","by":"`+side+`","_attachments":{"ünï ☃/𝄞?&+%.bin":`+inline(bytes256+side)+`,"empty":`+inline("")+`}}`,
			`{"_id":"_design/`+side+`","language":"query","views":{}}`,
		)
		p.bulkWith(db, map[string]any{"new_edits": false},
			`{"_id":"three","_rev":"2-aa`+side+`","_revisions":{"start":2,"ids":["aa`+side+`","ff"]},"v":1}`,
			`{"_id":"three","_rev":"2-bb","_revisions":{"start":2,"ids":["bb","ff"]},"v":2}`,
			`{"_id":"three","_rev":"3-cc","_revisions":{"start":3,"ids":["cc","bc","ff"]},"_deleted":true}`,
			`{"_id":"stemmed","_rev":"9-i","_revisions":{"start":9,"ids":["i","h","g"]},"v":9}`,
		)
		id := "deleted by " + side
		p.bulk(db, fmt.Sprintf(`{"_id":"%s","_rev":"%s","_deleted":true,"why":"with a body"}`, id, p.rev(db, id)))
		big := strings.Repeat(bytes256+side, 3000)
		p.do("attach", step{"db": db, "id": "big " + side, "name": "big.bin", "data": []byte(big), "type": "image/png"}, nil)
		p.do("attach", step{"db": db, "id": "big " + side, "name": "second", "rev": p.rev(db, "big "+side), "data": []byte("x"), "type": "text/plain"}, nil)
		var got []byte
		p.do("attachment", step{"db": db, "id": "big " + side, "name": "big.bin"}, &got)
		if string(got) != big {
			w.Errorf("%s: the attachment came back with %d bytes, want %d", side, len(got), len(big))
		}
	}
}

// TestPouchDBUsesHub: PouchDB as a client of the hub: queries, the changes feed, bulk writes and conflicts.
func TestPouchDBUsesHub(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hub := w.hub("hub")
	p := w.pouch()
	url := hub.url + "/notes"
	ask[any](w, "PUT", url, "")
	w.usePouchOn(p, url)
}

// usePouchOn uses a database behind a URL through PouchDB.
func (w *world) usePouchOn(p *pouch, url string) {
	w.Helper()
	p.do("listen", step{"db": url}, nil)
	p.bulk(url, `{"_id":"a","n":1,"tag":"x"}`, `{"_id":"b","n":2,"tag":"x"}`, `{"_id":"c","n":3,"tag":"y"}`)
	var ids []string
	p.do("heard", step{"count": 3}, &ids)
	if slices.Sort(ids); !slices.Equal(ids, []string{"a", "b", "c"}) {
		w.Errorf("the live changes feed told of %v", ids)
	}
	var found struct {
		Docs []struct {
			ID string `json:"_id"`
		}
	}
	p.call(url, "find", &found, map[string]any{"selector": map[string]any{"tag": "x", "n": map[string]any{"$gte": 2}}})
	if fmt.Sprint(found.Docs) != "[{b}]" {
		w.Errorf("find: %v", found.Docs)
	}
	var rows struct {
		Total int `json:"total_rows"`
		Rows  []struct {
			ID  string
			Doc struct{ N int }
		}
	}
	p.call(url, "allDocs", &rows, map[string]any{"include_docs": true, "keys": []string{"b", "c"}})
	if fmt.Sprint(rows.Rows) != "[{b {2}} {c {3}}]" {
		w.Errorf("allDocs: %+v", rows)
	}
	err := p.try("call", step{"db": url, "method": "put", "args": []any{map[string]any{"_id": "a"}}}, nil)
	if e := new(pouchError); !errors.As(err, &e) || e.Status != 409 || e.Name != "conflict" {
		w.Errorf("put without a revision: %v", err)
	}
	err = p.try("call", step{"db": url, "method": "get", "args": []any{"nope"}}, nil)
	if e := new(pouchError); !errors.As(err, &e) || e.Status != 404 || e.Reason != "missing" {
		w.Errorf("get of nothing: %v", err)
	}
	p.call(url, "remove", nil, "a", p.rev(url, "a"))
	err = p.try("call", step{"db": url, "method": "get", "args": []any{"a"}}, nil)
	if e := new(pouchError); !errors.As(err, &e) || e.Status != 404 || e.Reason != "deleted" {
		w.Errorf("get of a deleted document: %v", err)
	}
}

// TestPouchDBLiveWithHub: PouchDB's live sync with the hub hears of edits on both sides.
func TestPouchDBLiveWithHub(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hub := w.hub("hub")
	p := w.pouch()
	url := hub.url + "/notes"
	ask[any](w, "PUT", url, "")
	w.pouchLive(p, "memory:live", url, func(round int) {
		ask[any](w, "PUT", fmt.Sprintf("%s/hub-%d", url, round), `{}`)
	})
}

// pouchLive runs PouchDB's live sync while both sides are edited.
func (w *world) pouchLive(p *pouch, local, url string, edit func(round int)) {
	w.Helper()
	p.do("live", step{"a": local, "b": url}, nil)
	for round := range 3 {
		p.bulk(local, fmt.Sprintf(`{"_id":"pouch-%d"}`, round), fmt.Sprintf(`{"_id":"both-%d","by":"pouch"}`, round))
		edit(round)
		w.eventually("both sides have the same", func() error {
			a, b := p.leaves(local), w.remote(url)
			if len(a) < 3*(round+1) {
				return fmt.Errorf("%d leaves", len(a))
			}
			return difference(a, b)
		})
	}
	var c complete
	p.do("stop", step{}, &c)
	if c.Pushed.Written == 0 || c.Pulled.Written == 0 || c.Pushed.Failed+c.Pulled.Failed > 0 {
		w.Errorf("live sync: %+v", c)
	}
}
