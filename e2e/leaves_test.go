package e2e

import (
	"cmp"
	"crypto/md5"
	"encoding/base64"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// leaves is a database as replication sees it: every leaf revision, "id@rev",
// with what it says, in one spelling.
type leaves map[string]string

// A leaf is one leaf revision.
type leaf struct {
	Deleted     bool
	Revisions   []string // of itself and its ancestors, newest first
	Body        jsontext.Value
	Attachments map[string]attachment
}

// An attachment is compared without its revpos: PouchDB makes that the generation in which it got the bytes.
type attachment struct {
	ContentType string `json:"content_type"`
	Digest      string `json:"digest"`
	Data        []byte `json:"data,omitempty"`
}

// local reads a local database with `loveseat export --full`.
func (w *world) local(db string) leaves {
	w.Helper()
	all := leaves{}
	for line := range strings.Lines(w.loveseat("export", w.path(db), "--full")) {
		all.add(w, []byte(line))
	}
	return all
}

// remote reads a database over HTTP.
func (w *world) remote(url string) leaves {
	w.Helper()
	changes := ask[struct {
		Results []struct {
			ID      string
			Changes []struct{ Rev string }
		}
	}](w, http.MethodGet, url+"/_changes?style=all_docs", "")
	all := leaves{}
	for rows := range slices.Chunk(changes.Results, 100) {
		var refs []map[string]string
		for _, r := range rows {
			for _, c := range r.Changes {
				refs = append(refs, map[string]string{"id": r.ID, "rev": c.Rev})
			}
		}
		got := ask[struct {
			Results []struct {
				Docs []struct {
					OK    jsontext.Value
					Error jsontext.Value
				}
			}
		}](w, http.MethodPost, url+"/_bulk_get?revs=true&attachments=true", jsonOf(map[string]any{"docs": refs}))
		for _, r := range got.Results {
			for _, d := range r.Docs {
				if d.OK == nil {
					w.Fatalf("%s/_bulk_get: %s", url, d.Error)
				}
				all.add(w, d.OK)
			}
		}
	}
	return all
}

// add adds a leaf from its JSON with _revisions and attachments inline.
func (all leaves) add(w *world, raw []byte) {
	w.Helper()
	var members map[string]jsontext.Value
	w.ok(json.Unmarshal(raw, &members))
	var head struct {
		ID, Rev     string
		Deleted     bool
		Revisions   struct{ IDs []string }
		Attachments map[string]attachment
	}
	for name, into := range map[string]any{"_id": &head.ID, "_rev": &head.Rev, "_deleted": &head.Deleted, "_revisions": &head.Revisions, "_attachments": &head.Attachments} {
		if v := members[name]; v != nil {
			w.ok(json.Unmarshal(v, into, json.MatchCaseInsensitiveNames(true)))
		}
		delete(members, name)
	}
	body, err := json.Marshal(members)
	w.ok(err)
	w.ok((*jsontext.Value)(&body).Canonicalize())
	key := head.ID + "@" + head.Rev
	for name, a := range head.Attachments {
		sum := md5.Sum(a.Data)
		if want := "md5-" + base64.StdEncoding.EncodeToString(sum[:]); a.Digest != want {
			w.Fatalf("%s: attachment %q has %d bytes with the digest %s, but says %s", key, name, len(a.Data), want, a.Digest)
		}
		a.Data = nil
		head.Attachments[name] = a
	}
	if _, twice := all[key]; twice {
		w.Fatalf("%s was told twice", key)
	}
	all[key] = jsonOf(leaf{head.Deleted, head.Revisions.IDs, jsontext.Value(body), head.Attachments})
}

// alive counts, per document, the leaves that are not deleted.
func (all leaves) alive() map[string]int {
	n := map[string]int{}
	for key, l := range all {
		if !strings.HasPrefix(l, `{"Deleted":true`) {
			n[key[:strings.LastIndexByte(key, '@')]]++
		}
	}
	return n
}

// documents counts the documents that are not deleted.
func (all leaves) documents() int { return len(all.alive()) }

// conflicted returns the ids of documents with more than one leaf that is not deleted.
func (all leaves) conflicted() []string {
	n := all.alive()
	maps.DeleteFunc(n, func(_ string, n int) bool { return n < 2 })
	return slices.Sorted(maps.Keys(n))
}

// equal compares the databases of all sides.
func (w *world) equal(sides map[string]leaves) {
	w.Helper()
	names := slices.Sorted(maps.Keys(sides))
	for _, other := range names[1:] {
		if err := difference(sides[names[0]], sides[other]); err != nil {
			w.Fatalf("%s and %s differ:\n%v", names[0], other, err)
		}
	}
}

// difference tells the first few leaves in which two databases differ.
func difference(a, b leaves) error {
	keys := maps.Clone(a)
	maps.Copy(keys, b)
	var t strings.Builder
	n := 0
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		if a[key] == b[key] {
			continue
		}
		if n++; n <= 5 {
			fmt.Fprintf(&t, "  %s:\n    %.1000s\n    %.1000s\n", key, cmp.Or(a[key], "missing"), cmp.Or(b[key], "missing"))
		}
	}
	if n == 0 {
		return nil
	}
	return fmt.Errorf("%s  %d of %d leaves differ", t.String(), n, len(keys))
}
