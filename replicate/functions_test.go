package replicate_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/replicate"
)

func TestAFilterSelectsLeaves(t *testing.T) {
	a, b := newMemory("a"), newMemory("b")
	fill(a, 20)
	first := a.edit("clash", couch.Rev{}, `{"n":1}`, false)
	a.edit("clash", couch.Rev{}, `{"n":2}`, false)
	o := replicate.Options{FuncsVersion: "odd", Filter: func(_ string, doc *replicate.Document) bool {
		var v struct{ N int }
		return json.Unmarshal(doc.Body, &v) == nil && v.N%2 == 1
	}}
	res := mustRun(t, a, b, o)
	if res.DocsWritten != 11 || res.DocsFiltered != 11 || res.DocsRead != 22 {
		t.Errorf("%+v", res)
	}
	if _, ok := b.state()["clash "+first.String()]; !ok || len(b.docs) != 11 {
		t.Error("the leaf that passes is not there:", b.docs)
	}
	if res := mustRun(t, a, b, o); res.DocsRead != 0 {
		t.Errorf("the second run reads what was filtered again: %+v", res)
	}
	o.FuncsVersion = "even" // another filter is another replication
	o.Filter = func(string, *replicate.Document) bool { return true }
	if res := mustRun(t, a, b, o); res.DocsWritten != 11 {
		t.Errorf("%+v", res)
	}
	wantEqual(t, a, b)
	o.FuncsVersion = "" // of which nobody knows what it did the last time
	before := len(b.log)
	if res := mustRun(t, a, b, o); res.MissingChecked != 22 || len(b.log) != before {
		t.Errorf("it keeps a checkpoint: %+v", res)
	}
}

func TestWinnersOnly(t *testing.T) {
	a, b := newMemory("a"), newMemory("b")
	root := a.edit("x", couch.Rev{}, `{"root":1}`, false)
	a.edit("x", root, `{"loses":1}`, false)
	win := a.edit("x", a.edit("x", root, `{"mid":1}`, false), `{"wins":1}`, false)
	o := replicate.Options{WinnersOnly: true}
	res := mustRun(t, a, b, o)
	if res.DocsWritten != 1 || b.state()["x "+win.String()] == "" {
		t.Errorf("%+v %v", res, b.state())
	}
	if res := mustRun(t, a, b, o); res.MissingChecked != 0 {
		t.Errorf("no checkpoint: %+v", res)
	}
	mustRun(t, a, b, replicate.Options{})
	wantEqual(t, a, b)
}

func TestOptionsThatDoNotGoTogether(t *testing.T) {
	for _, o := range []replicate.Options{
		{DocIDs: []string{}, Selector: json.RawMessage(`{}`)},
		{DocIDs: []string{"a"}, DesignFilter: "a/b"},
		{Selector: json.RawMessage(`{`)},
		{QueryParams: map[string]string{"a": "b"}},
		{DesignFilter: "a/b", QueryParams: map[string]string{"since": "0"}},
	} {
		_, err := replicate.RunDB(context.Background(), newMemory("a"), newMemory("b"), o)
		if couch.AsError(err).Status != 400 {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

// Our databases run no JavaScript: also a live replication ends with their word, and copies nothing.
func TestADesignFilterIsRefusedByLoveseat(t *testing.T) {
	s := openStore(t)
	a, b := newDB(t, s, "a"), newDB(t, s, "b")
	load(t, a, records()[:1000])
	for name, source := range map[string]couch.DB{"local": a, "remote": serveStore(t, s, false).DB("a")} {
		_, err := replicate.RunDB(context.Background(), source, b, replicate.Options{Live: true, DesignFilter: "app/mine", QueryParams: map[string]string{"who": "me"}})
		var e *replicate.Error
		if !errors.As(err, &e) || e.Stage != "changes" || couch.AsError(err).Status != 400 || !strings.Contains(err.Error(), "app/mine") {
			t.Error(name, err)
		}
	}
	if len(leafSet(t, b)) != 0 {
		t.Error("documents were copied")
	}
}

// seal and unseal are a modifier and its inverse; documents with "plain" do not pass at all.
func seal(doc *replicate.Document) (*replicate.Document, error) {
	if bytes.Contains(doc.Body, []byte("plain")) {
		return nil, nil
	}
	doc.Body, _ = json.Marshal(map[string]string{"sealed": base64.StdEncoding.EncodeToString(doc.Body)})
	doc.ID, doc.Rev, doc.Deleted, doc.Revisions = "other", couch.Rev{}, false, nil // has no effect
	return doc, nil
}

func unseal(doc *replicate.Document) (_ *replicate.Document, err error) {
	var v struct{ Sealed string }
	if err = json.Unmarshal(doc.Body, &v); err == nil {
		doc.Body, err = base64.StdEncoding.DecodeString(v.Sealed)
	}
	return doc, err
}

// The property: whatever is edited on either side, what is transformed on its way
// comes to rest, is undone on its way back, and is the same revision on both sides.
func TestModifiedDocumentsConverge(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := newMemory("plain"), newMemory("sealed"), newMemory("plain too")
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		o := quick
		o.Push, o.Pull, o.FuncsVersion, o.BatchSize = seal, unseal, "1", 4
		for range 3 {
			for range rapid.IntRange(0, 20).Draw(t, "edits") {
				randomEdit(rng, []*memory{a, c}[rng.IntN(2)])
			}
			for _, m := range []*memory{a, c, a, c} {
				if _, err := replicate.SyncDB(context.Background(), unreliable(m, rng, 6), b, o); err != nil {
					t.Fatal(err)
				}
			}
		}
		wantEqual(t, a, c)
		for key, doc := range a.docs {
			for rev, leaf := range doc.revs {
				if other := b.docs[key].revs[rev]; other != nil && !slices.Equal(leaf.Revisions, other.Revisions) {
					t.Fatalf("%s %s has another history: %v, %v", key, rev, leaf.Revisions, other.Revisions)
				}
			}
		}
		if x, y := slices.Sorted(maps.Keys(a.state())), slices.Sorted(maps.Keys(b.state())); !slices.Equal(x, y) {
			t.Fatalf("leaves differ: %v, %v", x, y)
		}
		for key, doc := range b.state() {
			if !strings.Contains(doc, "sealed") {
				t.Fatal(key, doc)
			}
		}
		for _, m := range []*memory{a, c} {
			res, err := replicate.SyncDB(context.Background(), m, b, o)
			if err != nil || res.Pushed.DocsRead+res.Pulled.DocsRead != 0 {
				t.Fatalf("something goes to and fro: %+v %v", res, err)
			}
		}
	})
}

func TestAModifierMayDropAndFail(t *testing.T) {
	a, b := newMemory("a"), newMemory("b")
	fill(a, 5)
	a.edit("secret", couch.Rev{}, `{"plain":1}`, false)
	o := replicate.Options{Push: seal, FuncsVersion: "1"}
	if res := mustRun(t, a, b, o); res.DocsWritten != 5 || res.DocsFiltered != 1 {
		t.Errorf("%+v", res)
	}
	wrong := errors.New("no key")
	for name, modify := range map[string]replicate.Modifier{
		"an error":       func(*replicate.Document) (*replicate.Document, error) { return nil, wrong },
		"not a document": func(d *replicate.Document) (*replicate.Document, error) { d.Body = []byte("["); return d, nil },
	} {
		c := newMemory("c")
		_, err := replicate.RunDB(context.Background(), a, c, replicate.Options{Push: modify, FuncsVersion: "1", BatchSize: 2})
		var e *replicate.Error
		if !errors.As(err, &e) || e.Stage != "modify" || len(c.docs)+len(c.log) != 0 {
			t.Error(name, err)
		}
	}
}

// A modifier may give other attachments; those it leaves alone stay stubs where the target has them.
func TestAModifierMayChangeAttachments(t *testing.T) {
	s := openStore(t)
	a, b := newDB(t, s, "a"), newDB(t, s, "b")
	o := replicate.Options{FuncsVersion: "1", Push: func(d *replicate.Document) (*replicate.Document, error) {
		d.Attachments = slices.DeleteFunc(d.Attachments, func(a couch.Attachment) bool { return a.Name == "drop" })
		for i := range d.Attachments {
			if at := &d.Attachments[i]; at.Name == "change" && at.Data != nil {
				at.Data, at.Digest, at.Length = bytes.ToUpper(at.Data), "", -1
			}
		}
		return d, nil
	}}
	ctx := context.Background()
	doc := &couch.Doc{ID: "x", Attachments: []couch.Attachment{attach("change", []byte("abc")), attach("drop", []byte("d")), attach("keep", []byte("k"))}}
	for i := range 3 {
		doc.Body = json.RawMessage(fmt.Sprintf(`{"i":%d}`, i))
		res, err := a.BulkDocs(ctx, []*couch.Doc{doc}, couch.WriteOptions{})
		if err != nil || res[0].Err != nil {
			t.Fatal(err, res)
		}
		doc.Rev, doc.Attachments = res[0].Rev, nil
		old, err := a.Get(ctx, "x", couch.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		doc.Attachments = old.Attachments // stubs
		if res := mustRun(t, a, b, o); res.DocsWritten != 1 || res.DocWriteFailures != 0 {
			t.Fatalf("%+v", res)
		}
		got, err := b.Get(ctx, "x", couch.GetOptions{Attachments: true})
		if err != nil || got.Rev != doc.Rev || len(got.Attachments) != 2 || string(got.Attachments[0].Data) != "ABC" || string(got.Attachments[1].Data) != "k" {
			t.Fatalf("%v %s", err, got.AppendJSON(nil))
		}
	}
}
