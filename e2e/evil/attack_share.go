package evil

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/loveseat-db/loveseat/e2e/proc"
	"github.com/loveseat-db/loveseat/share"
)

// filteredShare are the attacks of item 3: what a filter hides is asked for in every way.
var filteredShare = []Attack{{Item: 3, Name: "what a filter hides", Run: asksForHidden}}

// hiddenIDs are the ids of _local documents as they can be spelled.
var localIDs = []string{"_local/secret", "_local%2Fsecret", "_local%2fsecret", "%5Flocal/secret", "_local%252Fsecret", "./_local/secret", "x/../_local/secret", "_local//secret", "/_local/secret", "_local/./secret"}

func asksForHidden(ctx context.Context, t *Target) error {
	o, err := t.open(ctx, t.Garden)
	if err != nil {
		return err
	}
	defer o.Close()
	var errs []error
	// the answer must hold nothing of what the document has become: Loot looks for that in all that comes, and here for a lie.
	failed := false
	ask := func(method, path, body string, h ...string) {
		a, err := o.do(ctx, method, path, request{header: headers(append([]string{"Content-Type", "application/json"}, h...)...), body: text(body)})
		if err != nil {
			return
		}
		if strings.Contains(a.Body, "canary") {
			errs = append(errs, fmt.Errorf("%s %s %.80s: %v", method, path, body, a))
		}
		if a.Status >= 500 && a.Status != 501 && !failed { // the first of them may be why the others are
			failed = true
			errs = append(errs, fmt.Errorf("%s %s %.80s makes the sharer fail: %v", method, path, body, a))
		}
	}
	for _, id := range []string{t.LeftID, t.HiddenID} {
		for _, q := range []string{"?latest=true&rev=" + t.LeftRev, "?latest=true&open_revs=" + `["` + t.LeftRev + `"]`, "?open_revs=all", "?open_revs=all&latest=true&revs=true", "?rev=" + t.LeftRev,
			"?revs_info=true&conflicts=true&deleted_conflicts=true", "?attachments=true&latest=true&rev=" + t.LeftRev, "/a", "/a?rev=" + t.LeftRev, "?meta=true&local_seq=true"} {
			ask("GET", "/"+id+strings.ReplaceAll(q, `"`, "%22"), "")
			ask("GET", "/"+id+strings.ReplaceAll(q, `"`, "%22"), "", "Accept", "multipart/mixed")
			ask("HEAD", "/"+id+strings.ReplaceAll(q, `"`, "%22"), "")
		}
		for _, q := range []string{"", "?latest=true", "?revs=true&attachments=true&latest=true"} {
			for _, ref := range []string{`{"id":%q}`, `{"id":%q,"rev":"` + t.LeftRev + `"}`, `{"id":%q,"rev":"` + t.LeftRev + `","atts_since":[]}`} {
				ask("POST", "/_bulk_get"+q, `{"docs":[`+fmt.Sprintf(ref, id)+`]}`)
				ask("POST", "/_bulk_get"+q, `{"docs":[`+fmt.Sprintf(ref, id)+`]}`, "Accept", "multipart/related")
			}
		}
		ask("POST", "/_all_docs?include_docs=true&conflicts=true", fmt.Sprintf(`{"keys":[%q]}`, id))
		ask("POST", "/_changes?include_docs=true&style=all_docs&filter=_doc_ids&attachments=true&conflicts=true", fmt.Sprintf(`{"doc_ids":[%q]}`, id))
		ask("POST", "/_find", fmt.Sprintf(`{"selector":{"_id":%q}}`, id))
		ask("COPY", "/"+id+"?rev="+t.LeftRev, "", "Destination", "copied-"+id)
		ask("GET", "/copied-"+id, "")
		ask("COPY", "/"+id, "", "Destination", "copied2-"+id)
		ask("GET", "/copied2-"+id, "")
	}
	for _, selector := range []string{`{}`, `{"public":{"$ne":true}}`, `{"public":false}`, `{"_id":{"$gt":null}}`, `{"secret":{"$regex":".*"}}`, `{"$nor":[{"public":true}]}`} {
		ask("POST", "/_find", `{"selector":`+selector+`,"limit":1000,"execution_stats":true}`)
		ask("POST", "/_changes?filter=_selector&include_docs=true&style=all_docs", `{"selector":`+selector+`}`)
	}
	for _, path := range []string{"/_all_docs?include_docs=true", "/_changes?include_docs=true&style=all_docs", "/_changes?feed=continuous&timeout=50&include_docs=true", "/_local_docs?include_docs=true", "/_local_docs", "/_design_docs?include_docs=true", "/_security", "/_revs_limit", "/_purged_infos"} {
		ask("GET", path, "")
	}
	for _, id := range localIDs {
		ask("GET", "/"+id, "")
		ask("GET", "/"+id+"/a", "")
		ask("COPY", "/"+id, "", "Destination", "local-copied")
		ask("GET", "/local-copied", "")
		for _, raw := range []string{id, "_local/secret"} {
			ask("POST", "/_bulk_get", fmt.Sprintf(`{"docs":[{"id":%q}]}`, raw))
			ask("POST", "/_all_docs?include_docs=true", fmt.Sprintf(`{"keys":[%q]}`, raw))
			ask("POST", "/_changes?filter=_doc_ids&include_docs=true", fmt.Sprintf(`{"doc_ids":[%q]}`, raw))
			ask("POST", "/_find", fmt.Sprintf(`{"selector":{"_id":%q}}`, raw))
		}
	}
	return errors.Join(errs...)
}

// floodedShare are the attacks of item 4, and other floods over streams.
var floodedShare = []Attack{
	{Item: 4, Name: "one-byte frames within the window", Run: smallFrames},
	{Item: 4, Name: "thousands of streams, and headers that do not end", Run: manyStreams},
	{Item: 4, Name: "what no HTTP client would say, over streams", Run: rawStreams},
	{Item: 4, Name: "numbers that a database does not take", Run: hugeNumbers},
}

// hugeNumbers asks for more than there can be, and for what is none: each is answered or refused, and the next one served.
func hugeNumbers(ctx context.Context, t *Target) error {
	o, err := t.open(ctx, t.Garden)
	if err != nil {
		return err
	}
	defer o.Close()
	for _, n := range []string{"4294967296", "2147483648", "9007199254740991", "9007199254740993", "18446744073709551616", "1e308", "-1", "-9007199254740991", "0.5", "NaN", "null", "%22%22"} {
		for _, q := range []struct{ method, path, body string }{
			{"GET", "/_all_docs?limit=" + n, ""}, {"GET", "/_all_docs?skip=" + n, ""}, {"GET", "/_all_docs?include_docs=true&descending=true&limit=" + n + "&skip=" + n, ""},
			{"GET", "/_changes?limit=" + n, ""}, {"GET", "/_changes?since=" + n, ""}, {"GET", "/_changes?seq_interval=" + n, ""}, {"GET", "/_changes?feed=longpoll&timeout=10&heartbeat=" + n + "&since=" + n, ""}, {"GET", "/_changes?descending=true&limit=" + n, ""},
			{"POST", "/_find", `{"selector":{"_id":{"$gt":null}},"limit":` + n + `}`}, {"POST", "/_find", `{"selector":{},"skip":` + n + `}`}, {"POST", "/_find", `{"selector":{"_id":"seen"}}`},
			{"POST", "/_all_docs?limit=" + n, `{"keys":["seen"],"skip":` + n + `}`},
		} {
			patience := 10 * time.Second
			if strings.Contains(q.path, "longpoll") { // with a heartbeat it may wait for ever, as CouchDB's
				patience = 300 * time.Millisecond
			}
			limited, cancel := context.WithTimeout(ctx, patience)
			a, err := o.do(limited, q.method, q.path, request{header: asJSON, body: text(q.body)})
			cancel()
			if err == nil && a.Status >= 500 && a.Status != 501 {
				return fmt.Errorf("%s %s %s makes the sharer fail: %v", q.method, q.path, q.body, a)
			}
		}
	}
	if a, err := o.do(ctx, "GET", "/_all_docs", request{}); err != nil || a.Status != 200 {
		return fmt.Errorf("after that the share does not answer: %v %w", a, err)
	}
	return nil
}

const sharerRoom = 128 << 20 // by which a sharer may grow

// smallFrames: bodies that come byte by byte, each in a frame of its own, take no more memory than they have.
func smallFrames(ctx context.Context, t *Target) error {
	o, err := t.open(ctx, t.Garden)
	if err != nil {
		return err
	}
	defer o.Close()
	g := watch(t.Garden.PID)
	limited, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	for i := range 16 {
		c, err := o.stream(limited, t.Garden.ID)
		if err != nil {
			break
		}
		stop := context.AfterFunc(limited, func() { _ = c.Close() })
		wg.Go(func() {
			defer c.Close()
			defer stop()
			head := fmt.Sprintf("PUT /%s/small%d HTTP/1.1\r\nHost: %s\r\nContent-Length: 8000000\r\n\r\n{\"a\":\"", t.Garden.DB, i, t.Garden.ID)
			if i%2 == 1 { // nobody reads it: it stays in the window
				head = strings.Repeat(fmt.Sprintf("GET /%s/_changes?feed=longpoll&since=now HTTP/1.1\r\nHost: %s\r\n\r\n", t.Garden.DB, t.Garden.ID), 2)
			}
			if _, err := io.WriteString(c, head); err != nil {
				return
			}
			for range 30_000 {
				if _, err := c.Write([]byte("a")); err != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	return t.within("the sharer", g.end(), sharerRoom)
}

// manyStreams: they take little, and an honest opener is served.
func manyStreams(ctx context.Context, t *Target) error {
	honest, err := t.openAs(ctx, t.Garden, wiring{as: &t.Ann, direct: true})
	if err != nil {
		return err
	}
	defer honest.Close()
	o, err := t.open(ctx, t.Garden)
	if err != nil {
		return err
	}
	defer o.Close()
	g := watch(t.Garden.PID)
	limited, cancel := context.WithTimeout(ctx, 4*time.Second)
	defer cancel()
	address, err := o.address(ctx, t.Garden.ID)
	if err != nil {
		return notMade("the share's address", err)
	}
	var mu sync.Mutex
	var all []net.Conn
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			for range 125 {
				c, err := o.transport.DialContext(limited, "", address)
				if err != nil {
					return
				}
				mu.Lock()
				all = append(all, c)
				mu.Unlock()
				_ = c.SetWriteDeadline(time.Now().Add(time.Second))
				_, _ = io.WriteString(c, "GET /"+strings.Repeat("a", worker*100)+" HTTP/1.1\r\nX-A: ")
				_, _ = io.WriteString(c, strings.Repeat("b", 8<<10))
			}
		})
	}
	wg.Wait()
	began := time.Now()
	a, err := honest.do(ctx, "GET", "/_all_docs?limit=1", request{})
	took := time.Since(began)
	for _, c := range all {
		_ = c.Close()
	}
	if err := t.within("the sharer", g.end(), sharerRoom); err != nil {
		return fmt.Errorf("%d streams: %w", len(all), err)
	}
	if err != nil || a.Status != 200 {
		return fmt.Errorf("next to %d streams an honest opener gets %v %w", len(all), a, err)
	}
	if took > Prompt && t.Alone {
		return fmt.Errorf("next to %d streams an honest opener waits %v", len(all), took)
	}
	return nil
}

// rawStreams: encoded paths, smuggled requests, headers twice; the answers are refusals or harmless, and nothing is written.
func rawStreams(ctx context.Context, t *Target) error {
	o, err := t.open(ctx, t.Library) // read-only: whatever is written has got through
	if err != nil {
		return err
	}
	defer o.Close()
	db, host := "/"+t.Library.DB, "Host: "+t.Library.ID+"\r\n"
	put := "PUT " + db + "/smuggled HTTP/1.1\r\n" + host + "Content-Length: 2\r\n\r\n{}"
	err = together([]string{
		put,
		"POST " + db + "/_find HTTP/1.1\r\n" + host + "Content-Type: application/json\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n" + put,
		"POST " + db + " HTTP/1.1\r\n" + host + "Content-Type: application/json\r\nX-HTTP-Method-Override: PUT\r\nContent-Length: 18\r\n\r\n{\"_id\":\"smuggled\"}",
		"PUT " + db + "%2Fsmuggled HTTP/1.1\r\n" + host + "Content-Length: 2\r\n\r\n{}",
		"PUT /" + db + "//smuggled HTTP/1.1\r\n" + host + "Content-Length: 2\r\n\r\n{}",
		"PUT " + db + "/_local/..%2fsmuggled HTTP/1.1\r\n" + host + "Content-Length: 2\r\n\r\n{}",
		"PUT " + db + "/_design%2fsmuggled HTTP/1.1\r\n" + host + "Content-Length: 2\r\n\r\n{}",
		"POST " + db + "/_bulk_docs HTTP/1.1\r\n" + host + "Content-Type: application/json\r\nContent-Length: 60\r\n\r\n{\"new_edits\":false,\"docs\":[{\"_id\":\"smuggled\",\"_rev\":\"1-a\"}]}",
		"POST " + db + "/_purge HTTP/1.1\r\n" + host + "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
		"DELETE " + db + " HTTP/1.1\r\n" + host + "\r\n", "PUT " + db + "x HTTP/1.1\r\n" + host + "\r\n", "POST " + db + "/_compact HTTP/1.1\r\n" + host + "Content-Type: application/json\r\n\r\n",
		"PUT " + db + "/smuggled HTTP/1.1\r\n" + host + "Loveseat-User: ann\r\nX-Forwarded-For: 127.0.0.1\r\nContent-Length: 2\r\n\r\n{}",
		"GET http://" + t.Library.ID + db + " HTTP/1.1\r\nHost: localhost\r\n\r\n", "CONNECT 127.0.0.1:1 HTTP/1.1\r\n" + host + "\r\n", "TRACE " + db + " HTTP/1.1\r\n" + host + "\r\n",
		"GET " + db + " HTTP/1.1\r\n" + host + host + "\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\x00\x01\x02\r\n\r\n",
		"GET " + db + "/_changes?feed=continuous&heartbeat=0&timeout=0 HTTP/1.1\r\n" + host + "\r\n", "GET " + db + "/_all_docs?limit=-1&skip=99999999999999999999 HTTP/1.1\r\n" + host + "\r\n",
		"GET " + db + "/" + strings.Repeat("%2e%2e%2f", 20) + "etc/passwd HTTP/1.1\r\n" + host + "\r\n", "GET " + db + "/_design/a/_rewrite/../../_local/secret HTTP/1.1\r\n" + host + "\r\n",
	}, func(raw string) error {
		got, err := o.raw(ctx, t.Library.ID, raw)
		if err != nil {
			return notMade("a stream", err)
		}
		if a, err := parse(got); err == nil && a.Status >= 500 && a.Status != 501 && a.Status != 505 {
			return fmt.Errorf("%.100q gets %v", raw, a)
		}
		return nil
	})
	if err != nil {
		return err
	}
	a, err := o.do(ctx, "GET", "/_all_docs", request{})
	if err != nil || a.Status != 200 {
		return fmt.Errorf("after that the share does not answer: %v %w", a, err)
	}
	if strings.Contains(a.Body, "smuggled") {
		return fmt.Errorf("a write into a read-only share: %v", a)
	}
	return nil
}

// chains are the attacks of item 8: who was revoked comes back under a key before or after. Only the first key is listed:
// the others come in by showing whom they succeed, which they do not do any more when one was revoked.
var chains = []Attack{
	{Item: 8, Name: "after the later key is revoked the older one does not open", Run: revokedChain(1, 0)},
	{Item: 8, Name: "after the older key is revoked a later one does not open", Run: revokedChain(0, 1)},
	{Item: 8, Name: "after a key is revoked one that succeeds its predecessor does not open", Run: revokedChain(1, 2)},
	{Item: 8, Name: "after a fork is revoked the one beside it does not open", Run: revokedChain(2, 1)},
}

// revokedChain shares a database with a peer that changes its keys, whose key number revoked is revoked: then none of its
// keys opens, whatever it shows, the key number tries being the first to ask. 0 is the first, 1 its successor, 2 another
// successor of 0, 3 one of 1 that nobody has seen.
func revokedChain(revoked, tries int) func(context.Context, *Target) error {
	return func(ctx context.Context, t *Target) error {
		keys, err := newChain()
		if err != nil {
			return err
		}
		store := fmt.Sprintf("%s/chain-%d", t.Dir, sharerNumber.Add(1))
		in := t.Loveseat(ctx, "import", store+"/chained", "-", "--json")
		in.Stdin = text(`{"_id":"a"}`)
		if out, err := in.CombinedOutput(); err != nil {
			return notMade("loveseat import: "+string(out), err)
		}
		hub := with(t.Direct, t.Ann) + "/hub"
		p, err := proc.StartCmd(t.Loveseat(ctx, "share", hub, store+"/chained", "--allow", keys[0].ID(), "--network", "127.0.0.0/8", "--json"))
		if err != nil {
			return notMade("loveseat share", err)
		}
		defer func() { _ = p.Stop() }()
		limited, cancel := context.WithTimeout(ctx, 30*time.Second)
		defer cancel()
		var shared struct{ ID string }
		if err := p.Next(limited, "shared", &shared); err != nil {
			return notMade("loveseat share", err)
		}
		s := Share{ID: shared.ID, DB: "chained"}
		for _, key := range keys[:3] {
			o, err := t.openAs(ctx, s, wiring{id: key, succeeds: true})
			if err != nil {
				return err
			}
			o.Close()
		}
		if out, err := t.Loveseat(ctx, "--identity", store, "revoke", hub, shared.ID, keys[revoked].ID()).CombinedOutput(); err != nil {
			return notMade("loveseat revoke: "+string(out), err)
		}
		for _, i := range []int{tries, 0, 1, 2, 3} {
			for _, shows := range []bool{false, true} {
				o, err := t.openAs(ctx, s, wiring{id: keys[i], succeeds: shows})
				if err == nil {
					o.Close()
					return fmt.Errorf("key %d was revoked, and key %d of the same peer opens the share (it shows what it succeeds: %v)", revoked, i, shows)
				}
				if !strings.Contains(err.Error(), "403") && !strings.Contains(err.Error(), "evoked") {
					return err
				}
			}
		}
		return nil
	}
}

// newChain makes the keys of revokedChain.
func newChain() ([]*share.Identity, error) {
	first, err := share.NewIdentity()
	if err != nil {
		return nil, err
	}
	keys := []*share.Identity{first}
	for _, of := range []int{0, 0, 1} {
		next, err := keys[of].Rotate()
		if err != nil {
			return nil, err
		}
		keys = append(keys, next)
	}
	return keys, nil
}

// locals are the attacks of item 9: the owner's _local documents, of a database that is a URL.
var locals = []Attack{{Item: 9, Name: "the owner's _local documents where the database is a URL", Run: ownersLocals}}

func ownersLocals(ctx context.Context, t *Target) error {
	o, err := t.open(ctx, t.Mirror)
	if err != nil {
		return err
	}
	defer o.Close()
	var errs []error
	for i, id := range localIDs {
		to := fmt.Sprintf("stolen-%d-%d", sharerNumber.Add(1), i)
		for _, step := range []struct{ method, path, body, destination string }{
			{"COPY", "/" + id, "", to}, {"GET", "/" + to, "", ""}, {"COPY", "/" + id + "?rev=0-1", "", to}, {"GET", "/" + to, "", ""},
			{"GET", "/" + id, "", ""}, {"GET", "/" + id + "?attachments=true&revs=true", "", ""}, {"GET", "/" + id + "/a", "", ""},
			{"POST", "/_bulk_get", fmt.Sprintf(`{"docs":[{"id":%q}]}`, id), ""}, {"POST", "/_all_docs?include_docs=true", fmt.Sprintf(`{"keys":[%q]}`, id), ""},
			{"POST", "/_changes?filter=_doc_ids&include_docs=true", fmt.Sprintf(`{"doc_ids":[%q]}`, id), ""},
			{"COPY", "/" + t.AbsentID, "", id}, {"PUT", "/" + id, `{"planted":true}`, ""}, {"DELETE", "/" + id + "?rev=0-1", "", ""},
			{"POST", "/_bulk_docs", fmt.Sprintf(`{"docs":[{"_id":%q,"planted":true}]}`, id), ""}, {"POST", "", fmt.Sprintf(`{"_id":%q,"planted":true}`, id), ""},
		} {
			h := headers("Content-Type", "application/json")
			if step.destination != "" {
				h.Set("Destination", step.destination)
			}
			a, err := o.do(ctx, step.method, step.path, request{header: h, body: text(step.body)})
			if err == nil && strings.Contains(a.Body, "canary") {
				errs = append(errs, fmt.Errorf("%s %s after COPY /%s: %v", step.method, step.path, id, a))
			}
		}
	}
	a, err := do(ctx, "GET", t.Direct+"/mirrored/_local/secret", request{as: &t.Ann})
	if err != nil || a.Status != 200 || strings.Contains(a.Body, "planted") {
		errs = append(errs, fmt.Errorf("the owner's _local document is now %v %w", a, err))
	}
	return errors.Join(errs...)
}

// manyLocals are the attacks of item 20.
var manyLocals = []Attack{{Item: 20, Name: "the owner's disk full of _local documents under new keys", Run: fillsDisk}}

// What of _local documents under many keys may stay, and how much more their files may take: SQLite's log of writes.
const (
	localsOfKey = 4 << 20
	localsInAll = 64 << 20
	logOfWrites = 80 << 20
)

// fillsDisk: who may only read writes more under each key than may stay of it, and more in all than may stay in all.
func fillsDisk(ctx context.Context, t *Target) error {
	const keys, each, long = 18, 76, 60 << 10
	before := size(t.Library.Dir)
	body := `{"x":"` + strings.Repeat("x", long) + `"}`
	var accepted, kept atomic.Int64
	errs := make([]error, keys)
	var wg sync.WaitGroup
	fill := func(key int) error {
		o, err := t.open(ctx, t.Library)
		if err != nil {
			return err
		}
		defer o.Close()
		at := func(i int) string { return fmt.Sprintf("/_local/fill-%d-%d", key, i) }
		for i := range each {
			a, err := o.do(ctx, "PUT", at(i), request{header: asJSON, body: text(body)})
			if err != nil || a.Status/100 != 2 {
				break
			}
			accepted.Add(long)
		}
		mine := int64(0)
		for i := range each {
			if a, err := o.do(ctx, "GET", at(i), request{}); err == nil && a.Status == 200 {
				mine += int64(len(a.Body))
			}
		}
		kept.Add(mine)
		if mine > localsOfKey {
			return fmt.Errorf("a read-only share keeps %d KiB of one key", mine>>10)
		}
		return nil
	}
	turns := make(chan struct{}, 3)
	for key := range keys {
		turns <- struct{}{}
		wg.Go(func() { defer func() { <-turns }(); errs[key] = fill(key) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if accepted.Load() == 0 || kept.Load() == 0 {
		return notMade("a _local document", errors.New("none is taken"))
	}
	if grew := size(t.Library.Dir) - before; grew > localsInAll+logOfWrites {
		return fmt.Errorf("a read-only share's store grew by %d MiB of the %d MiB that were accepted", grew>>20, accepted.Load()>>20)
	}
	return nil
}
