package share

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// limitsTable is testdata/filtered.json: what shares with limits may tell, for Go and for web/plugin alike.
type limitsTable struct {
	Shares map[string]struct {
		Selector json.RawMessage `json:"selector"`
		IDs      []string        `json:"ids"`
	} `json:"shares"`
	Docs   []json.RawMessage `json:"docs"`
	Locals []json.RawMessage `json:"locals"`
	Pairs  []struct{ Hidden, Missing, Rev string }
	Twins  []limitsRow `json:"twins"`
	Cases  []limitsRow `json:"cases"`
}

// A limitsRow is a request and what its answer has.
type limitsRow struct {
	Method  string            `json:"method"`
	Path    string            `json:"path"`
	Body    json.RawMessage   `json:"body"`
	Headers map[string]string `json:"headers"`
	Shares  []string          `json:"shares"` // nil: of a case "selector", of a twin all that have limits
	Status  int               `json:"status"`
	Has     []string          `json:"has"`
	HasNot  []string          `json:"hasNot"`
}

func readLimitsTable(t *testing.T) (table limitsTable) {
	t.Helper()
	b, err := os.ReadFile("testdata/filtered.json")
	if err == nil {
		err = json.Unmarshal(b, &table)
	}
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// served makes the table's database and opens a share of it.
func (table *limitsTable) served(w *world, share string) *Remote {
	w.t.Helper()
	db := w.db("notes")
	bulk, _ := json.Marshal(map[string]any{"docs": table.Docs, "new_edits": false})
	docs, _, err := couch.ParseBulkDocs(bulk, len(table.Docs))
	w.must(err)
	w.graft(db, docs...)
	for _, l := range table.Locals {
		d, err := couch.ParseDoc(l)
		w.must(err)
		d.ID = strings.TrimPrefix(d.ID, "_local/")
		_, err = db.PutLocal(w.ctx, d)
		w.must(err)
	}
	limits := table.Shares[share]
	s, err := w.join(nil).Share(w.ctx, kivikDB(w, "notes"), ShareOptions{Selector: limits.Selector, DocIDs: limits.IDs})
	w.must(err)
	return w.open(w.join(nil), s.ID())
}

// answer asks what a row asks, and returns the answer as text: status, headers and body.
func (row limitsRow) answer(w *world, r *Remote) (status int, text string) {
	w.t.Helper()
	path := strings.NewReplacer(`"`, "%22", "[", "%5B", "]", "%5D", " ", "%20").Replace(row.Path)
	req, err := http.NewRequestWithContext(w.ctx, row.Method, "http://"+r.id+"/notes"+path, strings.NewReader(string(row.Body)))
	w.must(err)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	for k, v := range row.Headers {
		req.Header.Set(k, v)
	}
	resp, err := r.HTTPClient().Do(req)
	w.must(err)
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	w.must(err)
	resp.Header.Del("Date")
	resp.Header.Del("X-CouchDB-Body-Time")
	return resp.StatusCode, fmt.Sprintf("%d\n%v\n%s", resp.StatusCode, resp.Header, body)
}

// asked is a request as text, in which a leak is none.
func (row limitsRow) asked() string {
	return fmt.Sprintf("%s %s %s %v", row.Method, row.Path, row.Body, row.Headers)
}

// with fills in the id and revision of a twin.
func (row limitsRow) with(id, rev string) limitsRow {
	fill := strings.NewReplacer("{id}", id, "{rev}", rev).Replace
	out := row
	out.Path, out.Headers = fill(row.Path), map[string]string{}
	if row.Body != nil {
		out.Body = json.RawMessage(fill(string(row.Body)))
	}
	for k, v := range row.Headers {
		out.Headers[k] = fill(v)
	}
	return out
}

func lacks(text string, all []string) bool {
	return slices.ContainsFunc(all, func(s string) bool { return !strings.Contains(text, s) })
}

func TestLimitsTable(t *testing.T) {
	table := readLimitsTable(t)
	for share := range table.Shares {
		t.Run(share, func(t *testing.T) {
			w := newWorld(t)
			r := table.served(w, share)
			for _, row := range table.Cases {
				if row.Shares == nil && share != "selector" || row.Shares != nil && !slices.Contains(row.Shares, share) {
					continue
				}
				status, text := row.answer(w, r)
				bad := leaks(text, row.asked()) || lacks(text, row.Has) || row.Status != 0 && row.Status != status || status >= 500
				for _, s := range row.HasNot {
					bad = bad || strings.Contains(text, s)
				}
				if bad {
					t.Errorf("%s: %s", row.asked(), text)
				}
			}
		})
	}
}

// A hidden and a missing id get the same answers, byte by byte.
func TestLimitsTwins(t *testing.T) {
	table := readLimitsTable(t)
	for _, share := range []string{"selector", "ids"} {
		t.Run(share, func(t *testing.T) {
			w := newWorld(t)
			r := table.served(w, share)
			for _, row := range table.Twins {
				if row.Shares != nil && !slices.Contains(row.Shares, share) {
					continue
				}
				for _, p := range table.Pairs {
					ask := row.with(p.Hidden, p.Rev)
					_, hidden := ask.answer(w, r)
					_, missing := row.with(p.Missing, p.Rev).answer(w, r)
					missing = strings.ReplaceAll(missing, p.Missing, p.Hidden)
					if hidden != missing || leaks(hidden, ask.asked()) {
						t.Errorf("%s: %s\nof a missing one: %s", ask.asked(), hidden, missing)
					}
				}
			}
		})
	}
}

// A feed that waits for many ids looks each change up among them.
func TestWaitForManyIDs(t *testing.T) {
	wanted := map[string]bool{}
	for i := range 1_000_000 {
		wanted[fmt.Sprint(i)] = true
	}
	w := &filteredFeed{f: &filtered{}, wanted: wanted}
	begun := time.Now()
	for range 10_000 {
		if c, err := w.see(t.Context(), &couch.Change{ID: "x"}); c != nil || err != nil {
			t.Fatal(c, err)
		}
	}
	if took := time.Since(begun); took > 2*time.Second {
		t.Error(took)
	}
}
