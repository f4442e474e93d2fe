package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// importCountries fills a local database with the countries of the world and
// the flag, outline and map of each.
func (w *world) importCountries(db string) {
	w.Helper()
	out := w.loveseat("import", w.path(db), filepath.Join(countries, "countries.json"), "--id", "cca3", "--attach", filepath.Join(countries, "data"), "--json")
	n := lastEvent[struct{ Created, Updated, Failed, Attachments int }](w, out, "imported")
	if n.Created != 250 || n.Attachments != 750 || n.Failed != 0 {
		w.Fatalf("import of the countries: %+v", n)
	}
}

// A listed is one share of `loveseat ls --json`.
type listed struct {
	ID, Name, Peer, DB, Access, Link string
	Info                             json.RawMessage
	DocCount                         int64 `json:"doc_count"`
}

func (w *world) ls(hub string) (shares []listed) {
	w.Helper()
	w.ok(json.Unmarshal([]byte(w.loveseat("ls", hub, "--json")), &shares))
	return shares
}

// TestMainJob: a hub and two peers; the share is listed, queried in place,
// replicated, edited on both sides with conflicts, and replicated again.
func TestMainJob(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hub := w.hub("hub")
	w.importCountries("alice/countries")
	s := w.share(hub.db, "alice/countries", "--name", "Countries of the world", "--info", `{"from":["npm",1.50]}`)

	shares := w.ls(hub.db)
	if len(shares) != 1 {
		t.Fatalf("ls: %+v", shares)
	}
	if l := shares[0]; l.ID != s.ID || l.Name != "Countries of the world" || string(l.Info) != `{"from":["npm",1.50]}` ||
		l.Peer != s.Peer || l.DB != "countries" || l.DocCount != 250 || l.Link != s.Link || l.Access != "read-write" {
		t.Errorf("ls: %+v, shared %+v", l, s)
	}
	url := w.open(hub.db, "Countries of the world")
	w.queryInPlace(url)

	c := w.sync(w.path("bob/countries"), s.Link)
	if c.Pulled.Read != 250 || c.Pulled.Written != 250 || c.Pushed.Written != 0 || c.Pulled.Bytes < 16_000_000 || c.Route != "host" {
		t.Errorf("first sync: %+v", c)
	}
	w.equal(map[string]leaves{"alice": w.local("alice/countries"), "bob": w.local("bob/countries")})
	c = w.sync(w.path("bob/countries"), s.Link)
	if n := c.Pushed.Written + c.Pulled.Written + c.Pushed.Checked + c.Pulled.Checked; n != 0 || c.Seconds > 1 {
		t.Errorf("second sync: %+v, want nothing copied, in under a second", c)
	}

	w.editBothSides("alice/countries", "bob/countries")
	c = w.sync(w.path("bob/countries"), s.Link)
	if c.Pushed.Written != 9 || c.Pulled.Written != 8 {
		t.Errorf("sync of the edits: %+v, want 9 revisions of B and 8 of A", c)
	}
	alice := w.local("alice/countries")
	w.equal(map[string]leaves{"alice": alice, "bob": w.local("bob/countries"), "the open share": w.remote(url)})
	if got, want := alice.conflicted(), []string{"CHE", "ITA"}; !slices.Equal(got, want) {
		t.Errorf("conflicts in %v, want %v", got, want)
	}
	if a, b := w.loveseat("export", w.path("alice/countries")), w.loveseat("export", w.path("bob/countries")); a != b {
		t.Error("the winners differ")
	}
	c = w.sync(w.path("bob/countries"), s.Link)
	if c.Pushed.Written+c.Pulled.Written != 0 {
		t.Errorf("sync after the edits' sync: %+v", c)
	}

	w.ok(s.Stop())
	if shares := w.ls(hub.db); len(shares) != 0 {
		t.Errorf("after Ctrl-C of the sharer: %+v", shares)
	}
}

// queryInPlace uses an opened share with plain HTTP.
func (w *world) queryInPlace(url string) {
	w.Helper()
	country := ask[struct {
		Name        struct{ Common string }
		Attachments map[string]attachment `json:"_attachments"`
	}](w, http.MethodGet, url+"/NZL", "")
	if country.Name.Common != "New Zealand" || len(country.Attachments) != 3 {
		w.Errorf("GET NZL: %+v", country)
	}
	found := ask[struct {
		Docs []struct {
			ID   string `json:"_id"`
			Area float64
		}
	}](w, http.MethodPost, url+"/_find", `{"selector":{"region":"Europe","area":{"$gt":300000}},"sort":[{"area":"desc"}],"fields":["_id","area"],"limit":3}`)
	if got := fmt.Sprint(found.Docs); got != "[{RUS 1.7098242e+07} {UKR 603500} {FRA 551695}]" {
		w.Errorf("_find: %s", got)
	}
	want, err := os.ReadFile(filepath.Join(countries, "data", "nzl.svg"))
	w.ok(err)
	resp, err := http.Get(url + "/NZL/nzl.svg")
	w.ok(err)
	defer resp.Body.Close()
	var got bytes.Buffer
	_, err = got.ReadFrom(resp.Body)
	w.ok(err)
	if !bytes.Equal(got.Bytes(), want) || resp.Header.Get("Content-Type") != "image/svg+xml" {
		w.Errorf("GET nzl.svg: %s %s, %d bytes, want %d", resp.Status, resp.Header.Get("Content-Type"), got.Len(), len(want))
	}
}

// editBothSides makes 8 revisions at A, 9 at B and two that are alike: two conflicts with both sides alive, and others that are
// edited or deleted at one side or both; attachments are added, changed and removed.
func (w *world) editBothSides(a, b string) {
	w.Helper()
	big := make([]byte, 3<<20) // too long to travel inside a document
	for i := range len(big) / sha256.Size {
		sum := sha256.Sum256([]byte{byte(i), byte(i >> 8), byte(i >> 16)})
		copy(big[i*sha256.Size:], sum[:])
	}
	w.edit(a,
		`{"_id":"FRA","edited":"by A"}`, // the map, outline and flag go
		`{"_id":"ITA","edited":"by A","_attachments":{"note":`+inline("A's")+`}}`,
		`{"_id":"CHE","edited":"by A","n":[1,2.50,null]}`,
		`{"_id":"JPN","edited":"by A","_attachments":{"big":`+inline(string(big))+`,"ただ.txt":`+inline("日本")+`}}`,
		`{"_id":"NOR","_deleted":true}`,
		`{"_id":"ESP","_deleted":true}`, // against an edit of B
		`{"_id":"PRT","_deleted":true}`, // by both, alike
		`{"_id":"SWE","edited":"by A"}`, // against a deletion by B
		`{"_id":"neu/ä ö?&%2F","new":"by A"}`,
		`{"_id":"same","alike":true}`,
	)
	w.edit(b,
		`{"_id":"DEU","edited":"by B"}`,
		`{"_id":"ITA","edited":"by B","_attachments":{"note":`+inline("B's")+`}}`,
		`{"_id":"CHE","edited":"by B"}`,
		`{"_id":"DNK","edited":"by B","_attachments":{"empty":`+inline("")+`}}`,
		`{"_id":"FIN","_deleted":true}`,
		`{"_id":"ESP","edited":"by B"}`,
		`{"_id":"PRT","_deleted":true}`,
		`{"_id":"SWE","_deleted":true}`,
		`{"_id":"new","new":"by B","_attachments":{"a b/c?.bin":`+inline(strings.Repeat("\x00\xff", 100))+`}}`,
		`{"_id":"POL","edited":"by B"}`,
		`{"_id":"same","alike":true}`,
	)
}
