package evil

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"time"
)

// oracles are the attacks of item 15: whether something hidden is there, by comparing what is answered of it with
// what is answered of something that is not.
var oracles = []Attack{
	{Item: 15, Name: "whether a document is hidden by a share's filter or missing", Run: shareOracle},
	{Item: 15, Name: "whether a document of a hub database is hidden or missing", Run: hubOracle, Stranger: true},
}

// A question is a request in which ID stands for the id that is asked about.
type question struct{ method, path, body string }

const someRev = "1-967a00dff5e02add41819138abb3284d"

// questions are all that can be asked of an id.
func questions() (all []question) {
	add := func(method, path, body string) { all = append(all, question{method, path, body}) }
	for _, q := range []string{"", "?rev=" + someRev, "?latest=true&rev=" + someRev, "?open_revs=all", "?open_revs=[%22" + someRev + "%22]", "?revs=true&revs_info=true", "?conflicts=true&deleted_conflicts=true", "?attachments=true", "?meta=true", "?local_seq=true", "?att_encoding_info=true&atts_since=[]", "?rev=nonsense"} {
		add("GET", "/ID"+q, "")
		add("HEAD", "/ID"+q, "")
	}
	for _, path := range []string{"/ID/a", "/ID/a?rev=" + someRev} {
		add("GET", path, "")
		add("HEAD", path, "")
		add("DELETE", path, "")
	}
	add("DELETE", "/ID", "")
	add("DELETE", "/ID?rev="+someRev, "")
	add("PUT", "/ID?rev="+someRev, `{"a":1}`)
	add("PUT", "/ID?rev=2-967a00dff5e02add41819138abb3284d", `{"public":true}`)
	add("PUT", "/ID/a?rev="+someRev, `x`)
	add("COPY", "/ID", "")
	add("COPY", "/ID?rev="+someRev, "")
	for _, q := range []string{"", "?revs=true", "?latest=true", "?attachments=true"} {
		add("POST", "/_bulk_get"+q, `{"docs":[{"id":"ID"}]}`)
		add("POST", "/_bulk_get"+q, `{"docs":[{"id":"ID","rev":"`+someRev+`"}]}`)
	}
	add("POST", "/_bulk_docs", `{"docs":[{"_id":"ID","_rev":"`+someRev+`","a":1}]}`)
	add("POST", "/_bulk_docs", `{"docs":[{"_id":"ID","_rev":"`+someRev+`","_deleted":true}]}`)
	add("POST", "/_revs_diff", `{"ID":["`+someRev+`"]}`)
	add("POST", "/_missing_revs", `{"ID":["`+someRev+`"]}`)
	for _, q := range []string{"", "?include_docs=true", "?conflicts=true&include_docs=true", "?update_seq=true", "?limit=1", "?skip=1", "?descending=true"} {
		add("POST", "/_all_docs"+q, `{"keys":["ID"]}`)
		add("POST", "/_all_docs"+q, `{"keys":["ID","none","ID"]}`)
	}
	for _, q := range []string{"key=%22ID%22", "keys=[%22ID%22]", "startkey=%22ID%22&endkey=%22ID%22", "startkey=%22ID%22", "endkey=%22ID%22", "startkey=%22ID%22&limit=1&include_docs=true", "startkey=%22ID%22&endkey=%22ID%22&inclusive_end=false", "startkey=%22ID%22&descending=true&limit=1", "start_key=%22ID%22&skip=1&limit=1&update_seq=true"} {
		add("GET", "/_all_docs?"+q, "")
	}
	for _, q := range []string{"", "&include_docs=true", "&style=all_docs", "&since=0&limit=1", "&since=now", "&limit=0", "&descending=true", "&conflicts=true&include_docs=true&attachments=true", "&seq_interval=2", "&feed=longpoll&since=0&timeout=20", "&feed=longpoll&since=now&timeout=20", "&feed=continuous&since=0&timeout=20", "&feed=continuous&since=now&timeout=20", "&feed=eventsource&since=0&timeout=20"} {
		add("POST", "/_changes?filter=_doc_ids"+q, `{"doc_ids":["ID"]}`)
		add("GET", "/_changes?filter=_doc_ids&doc_ids=[%22ID%22]"+q, "")
		add("POST", "/_changes?filter=_selector"+q, `{"selector":{"_id":"ID"}}`)
	}
	for _, q := range []string{`"selector":{"_id":"ID"}`, `"selector":{"_id":{"$gte":"ID","$lte":"ID"}}`, `"selector":{"_id":{"$in":["ID"]}}`, `"selector":{"_id":{"$regex":"^ID$"}}`, `"selector":{"_id":{"$ne":"ID"}},"limit":1`} {
		for _, more := range []string{"", `,"execution_stats":true`, `,"fields":["_id","_rev"]`, `,"conflicts":true`, `,"limit":1,"skip":0`, `,"r":1,"update":false`} {
			add("POST", "/_find", "{"+q+more+"}")
			if more == "" {
				add("POST", "/_explain", "{"+q+"}")
			}
		}
	}
	for _, path := range []string{"/_local/ID", "/_design/ID", "/_design/ID/_view/a", "/_design/ID/_info"} {
		add("GET", path, "")
	}
	return all
}

// random questions combine what the others have.
func randomQuestions(r *rand.Rand, n int) (all []question) {
	known := questions()
	params := []string{"rev=" + someRev, "latest=true", "open_revs=all", "revs=true", "attachments=true", "include_docs=true", "limit=1", "limit=0", "skip=1", "since=0", "since=now", "style=all_docs", "descending=true", "update_seq=true", "conflicts=true", "timeout=20", "feed=continuous", "feed=longpoll", "local_seq=true", "seq_interval=1", "last-event-id=1", "stable=true", "filter=_doc_ids", "filter=_selector", "key=%22ID%22", "startkey=%22ID%22", "endkey=%22ID%22", "new_edits=false", "batch=ok"}
	for range n {
		q := known[r.IntN(len(known))]
		sep := "?"
		if strings.Contains(q.path, "?") {
			sep = "&"
		}
		for range 1 + r.IntN(3) {
			q.path += sep + params[r.IntN(len(params))]
			sep = "&"
		}
		if strings.Contains(q.path, "longpoll") || strings.Contains(q.path, "continuous") {
			q.path += "&timeout=20"
		}
		if q.method == "PUT" && !strings.Contains(q.path, "rev=") || q.method != "GET" && strings.Contains(q.path, "new_edits") {
			continue // that makes it, which shows that it was there
		}
		all = append(all, q)
	}
	return all
}

// answered is all of an answer that the asker sees, with the id that was asked about taken out.
func answered(a *answer, err error, id string) string {
	if err != nil {
		return "error"
	}
	h := a.Header.Clone()
	for _, name := range []string{"Date", "X-Couch-Request-Id", "X-Request-Id"} {
		h.Del(name)
	}
	var b strings.Builder
	fmt.Fprintln(&b, a.Status)
	for _, name := range slices.Sorted(maps.Keys(h)) {
		fmt.Fprintln(&b, name, h[name])
	}
	b.WriteString(a.Body)
	return strings.ReplaceAll(b.String(), id, "ID")
}

// compare asks about two ids in turn, twice, so that what changes by itself is told from what the id is the cause of.
func compare(ctx context.Context, q question, hidden, absent string, ask func(context.Context, question) (*answer, error)) error {
	one := func(id string) string {
		limited, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		a, err := ask(limited, question{q.method, strings.ReplaceAll(q.path, "ID", id), strings.ReplaceAll(q.body, "ID", id)})
		return answered(a, err, id)
	}
	var got [6]string
	for i := range got {
		if i >= 2 && got[0] == got[1] {
			return nil
		}
		got[i] = one([]string{hidden, absent}[i%2])
	}
	if got[0] != got[2] || got[0] != got[4] || got[1] != got[3] || got[1] != got[5] {
		return nil
	}
	return fmt.Errorf("%s %s %s\n  hidden: %.400q\n  absent: %.400q", q.method, q.path, q.body, got[0], got[1])
}

func compareAll(ctx context.Context, all []question, hidden, absent string, ask func(context.Context, question) (*answer, error)) error {
	var differ []string
	for _, q := range all {
		if err := compare(ctx, q, hidden, absent, ask); err != nil {
			differ = append(differ, err.Error())
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	if differ == nil {
		return nil
	}
	return fmt.Errorf("%d of %d questions tell whether it is there, such as\n%s", len(differ), len(all), strings.Join(differ[:min(6, len(differ))], "\n"))
}

func shareOracle(ctx context.Context, t *Target) error {
	o, err := t.open(ctx, t.Garden)
	if err != nil {
		return err
	}
	defer o.Close()
	all := append(questions(), randomQuestions(rand.New(rand.NewPCG(rand.Uint64(), 0)), 100)...)
	return compareAll(ctx, all, t.HiddenID, t.AbsentID, func(ctx context.Context, q question) (*answer, error) {
		return o.do(ctx, q.method, q.path, request{header: questionHeader(q), body: text(q.body)})
	})
}

func questionHeader(q question) http.Header {
	h := headers("Content-Type", "application/json")
	if q.method == "COPY" {
		h.Set("Destination", "_design/nowhere") // which nobody may write
	}
	return h
}

// neighbour is an id next to another, so that nothing is between them.
func neighbour(id string) string {
	last := byte('b')
	if id[len(id)-1] == last {
		last = 'c'
	}
	return id[:len(id)-1] + string(last)
}

// hubOracle asks about another's share that is not listed, another's signal, and whose a peer is.
func hubOracle(ctx context.Context, t *Target) error {
	v, err := t.victim(ctx, "unlisted", wiring{as: &t.Ann})
	if err != nil {
		return notMade("an honest peer", err)
	}
	defer v.Close()
	ask := func(ctx context.Context, q question) (*answer, error) {
		return do(ctx, q.method, t.Hub+"/unlisted"+q.path, request{as: &t.Mallory, header: questionHeader(q), body: text(q.body)})
	}
	all := append(questions(), randomQuestions(rand.New(rand.NewPCG(rand.Uint64(), 0)), 60)...)
	if err := compareAll(ctx, all, "share:"+v.share.ID(), "share:"+neighbour(v.share.ID()), ask); err != nil {
		return fmt.Errorf("a share: %w", err)
	}
	if err := compareAll(ctx, all, "peer:"+v.ID(), "peer:"+neighbour(v.ID()), ask); err != nil {
		return fmt.Errorf("whose a peer is: %w", err)
	}
	return nil
}
