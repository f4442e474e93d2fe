package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/loveseat-db/loveseat/e2e/signed"
)

const loadClients = 8

// A load is clients that write to a hub which is killed, and what the hub has acknowledged.
type load struct {
	*world
	hub    *hub
	random *rand.Rand
	peers  [loadClients]*signed.Peer
	rounds int
	since  string

	mu    sync.Mutex
	docs  map[string]*kept
	seqs  map[int64]string // what the feeds have told of each sequence
	acked int
	full  chan struct{} // closed when a round has enough
	left  int           // until then
}

// kept is a document as it was acknowledged last.
type kept struct {
	rev     string
	deleted bool
	att     []byte // of the attachment "a"
	open    bool   // an edit has not been answered
	round   int    // in which it was acknowledged
	client  int
}

func newLoad(t *testing.T, limit time.Duration) *load {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	l := &load{world: newWorldFor(t, limit), random: rand.New(rand.NewPCG(seed, 0)), since: "0", docs: map[string]*kept{}, seqs: map[int64]string{}}
	l.hub = l.world.hub("hub", "--limit-signals", "-1")
	ask[any](l.world, http.MethodPut, l.hub.url+"/db", "")
	for i := range l.peers {
		var err error
		l.peers[i], err = signed.New()
		l.ok(err)
	}
	return l
}

// round has the clients write until so much is acknowledged, kills the hub while they go on, starts it again and looks.
func (l *load) round(enough int) {
	l.Helper()
	l.rounds++
	l.full, l.left = make(chan struct{}), enough
	ctx, cancel := context.WithTimeout(l.ctx, 2*waitTime)
	defer cancel()
	var clients sync.WaitGroup
	for c := range loadClients {
		random := rand.New(rand.NewPCG(l.random.Uint64(), 0))
		clients.Go(func() {
			if errors.Is(l.client(ctx, c, random), errAnswer) {
				cancel()
			}
		})
	}
	for _, feed := range []string{"continuous", "longpoll"} {
		clients.Go(func() { l.listen(ctx, feed) })
	}
	select {
	case <-l.full:
	case <-ctx.Done():
		l.Errorf("round %d: %d acknowledgements are missing", l.rounds, l.left)
	}
	l.hub.Kill()
	clients.Wait()
	if l.Failed() {
		l.FailNow()
	}
	l.hub = l.hubAt(l.hub.addr(), "hub", "--limit-signals", "-1")
	l.check()
}

// client edits documents of its own until the hub is dead.
func (l *load) client(ctx context.Context, c int, random *rand.Rand) error {
	for n := 0; ctx.Err() == nil; n++ {
		id := fmt.Sprintf("%d-%d-%d", l.rounds, c, n)
		var err error
		switch random.IntN(10) {
		case 0:
			err = l.bulk(ctx, c, id, 1+random.IntN(20))
		case 1:
			err = l.local(ctx, c)
		case 2:
			err = l.signal(ctx, c, n)
		case 3, 4:
			err = l.change(ctx, c, random, http.MethodPut, `{"n":2}`)
		case 5:
			err = l.change(ctx, c, random, http.MethodDelete, "")
		case 6:
			err = l.attach(ctx, c, id, random)
		default:
			err = l.edit(ctx, http.MethodPut, "/db/"+id, `{"text":"lorem ipsum"}`, kept{client: c}, id)
		}
		if err != nil {
			return err
		}
	}
	return ctx.Err()
}

// bulk writes new documents at once.
func (l *load) bulk(ctx context.Context, c int, id string, n int) error {
	ids, docs := make([]string, n), make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprintf("%s-%d", id, i)
		docs[i] = `{"_id":"` + ids[i] + `"}`
	}
	return l.edit(ctx, http.MethodPost, "/db/_bulk_docs", `{"docs":[`+strings.Join(docs, ",")+`]}`, kept{client: c}, ids...)
}

// attach writes a new document with an attachment: small ones are kept in SQLite, large ones in files.
func (l *load) attach(ctx context.Context, c int, id string, random *rand.Rand) error {
	att := bytes.Repeat([]byte(id), 1+random.IntN(3)*50_000)
	return l.edit(ctx, http.MethodPut, "/db/"+id+"/a", string(att), kept{client: c, att: att}, id)
}

// change edits or deletes one of the client's documents.
func (l *load) change(ctx context.Context, c int, random *rand.Rand, method, body string) error {
	id, before := l.mine(c, random.IntN(50))
	if id == "" {
		return nil
	}
	return l.edit(ctx, method, "/db/"+id+"?rev="+before.rev, body, kept{client: c, deleted: method == http.MethodDelete}, id)
}

// mine returns one of the client's documents.
func (l *load) mine(c, skip int) (string, kept) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, k := range l.docs { // in no order
		if k.client == c && !k.deleted && k.rev != "" && !strings.Contains(id, "/") && !strings.Contains(id, ":") {
			if skip--; skip < 0 {
				return id, *k
			}
		}
	}
	return "", kept{}
}

// local writes the client's _local document.
func (l *load) local(ctx context.Context, c int) error {
	id := fmt.Sprintf("_local/%d", c)
	l.mu.Lock()
	rev := ""
	if k := l.docs[id]; k != nil {
		rev = k.rev
	}
	l.mu.Unlock()
	body := `{"n":1}`
	if rev != "" {
		body = fmt.Sprintf(`{"_rev":%q}`, rev)
	}
	return l.edit(ctx, http.MethodPut, "/db/"+id, body, kept{client: c}, id)
}

// signal sends one to the next client.
func (l *load) signal(ctx context.Context, c, n int) error {
	id, body, err := l.peers[c].Signal(l.peers[(c+1)%loadClients], (l.rounds*loadClients+c)<<24+n)
	if err != nil {
		return err
	}
	return l.edit(ctx, http.MethodPut, "/hub/"+id, string(body), kept{client: c}, id)
}

var errAnswer = errors.New("an answer that is none")

// edit sends a write and notes what is acknowledged of the documents that it is of.
func (l *load) edit(ctx context.Context, method, path, body string, as kept, ids ...string) error {
	l.mu.Lock()
	for _, id := range ids {
		if l.docs[id] == nil {
			l.docs[id] = &kept{client: as.client}
		}
		l.docs[id].open = true
	}
	l.mu.Unlock()
	status, answer, err := send(ctx, method, l.hub.url+path, body)
	if err != nil {
		return err // the hub is dead
	}
	type row struct{ ID, Rev string }
	rows := []row{{}}
	if json.Unmarshal(answer, &rows) != nil && json.Unmarshal(answer, &rows[0]) != nil || status/100 != 2 || len(rows) != len(ids) {
		l.Errorf("%s %s: %d %s", method, path, status, answer)
		return errAnswer
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, id := range ids {
		k := as
		k.rev, k.round = rows[i].Rev, l.rounds
		l.docs[id] = &k
	}
	l.acked += len(ids)
	if l.left--; l.left == 0 {
		close(l.full)
	}
	return nil
}

// send makes a request, and returns an error if that is not answered wholly.
func send(ctx context.Context, method, url, body string) (int, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	return resp.StatusCode, answer, err
}

// A feedRow is a row of a feed.
type feedRow struct {
	Seq, ID string
	Deleted bool
	Changes []struct{ Rev string }
}

// listen follows the changes until the hub is dead, and notes which sequence each has.
func (l *load) listen(ctx context.Context, feed string) {
	for since := "now"; ctx.Err() == nil; {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, l.hub.url+"/db/_changes?feed="+feed+"&since="+since+"&timeout=1000", nil)
		if err != nil {
			return
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return
		}
		if feed == "continuous" {
			for rows := json.NewDecoder(resp.Body); ; {
				var row feedRow
				if rows.Decode(&row) != nil || row.ID == "" {
					break
				}
				since = row.Seq
				l.heard(row)
			}
		} else {
			var all struct {
				Results []feedRow
				Last    string `json:"last_seq"`
			}
			err = json.NewDecoder(resp.Body).Decode(&all)
			for _, row := range all.Results {
				l.heard(row)
			}
			since = all.Last
		}
		resp.Body.Close()
		if err != nil {
			return
		}
	}
}

// heard checks that a sequence tells what it told before.
func (l *load) heard(row feedRow) {
	digits, _, _ := strings.Cut(row.Seq, "-")
	seq, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || len(row.Changes) != 1 {
		l.Errorf("a row of a feed: %+v", row)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := row.ID + " " + row.Changes[0].Rev
	if before, ok := l.seqs[seq]; ok && before != now {
		l.Errorf("round %d: the sequence %d was that of %s and is that of %s", l.rounds, seq, before, now)
	}
	l.seqs[seq] = now
}

// check compares what the hub has, after it was killed, with what it has acknowledged.
func (l *load) check() {
	l.Helper()
	all := ask[struct {
		Results []feedRow
		Last    string `json:"last_seq"`
	}](l.world, http.MethodGet, l.hub.url+"/db/_changes?since="+l.since, "")
	before := l.number(l.since)
	rows := map[string]feedRow{}
	for _, row := range all.Results {
		if seq := l.number(row.Seq); seq <= before {
			l.Errorf("the sequence %s of %s comes after %d", row.Seq, row.ID, before)
		} else {
			before = seq
		}
		l.heard(row)
		rows[row.ID] = row
	}
	l.since = all.Last
	for id, k := range l.docs {
		switch {
		case strings.HasPrefix(id, "signal:"):
			l.checkSignal(id, k)
		case strings.HasPrefix(id, "_local/"):
			l.checkLocal(id, k)
		default:
			l.checkDoc(id, k, rows[id])
		}
		k.open = false
		if k.rev == "" {
			delete(l.docs, id) // the hub died before
		}
	}
}

// checkDoc compares a document with its row in the changes since the last time.
func (l *load) checkDoc(id string, k *kept, row feedRow) {
	if row.ID == "" {
		if k.round == l.rounds {
			l.Errorf("round %d: %s %s was acknowledged and is not in the changes", l.rounds, id, k.rev)
		}
		return
	}
	rev := row.Changes[0].Rev
	switch {
	case rev == k.rev:
		if row.Deleted != k.deleted {
			l.Errorf("round %d: %s %s: deleted %v", l.rounds, id, rev, row.Deleted)
		}
	case k.open && generation(rev) == generation(k.rev)+1: // it was written, and the answer was lost
		k.rev, k.deleted, k.att = rev, row.Deleted, nil
	default:
		l.Errorf("round %d: %s %s was acknowledged, the changes have %s", l.rounds, id, k.rev, rev)
	}
	if k.att == nil {
		return
	}
	if status, got, err := l.http(http.MethodGet, l.hub.url+"/db/"+id+"/a", ""); err != nil || status != 200 || !bytes.Equal(got, k.att) {
		l.Errorf("round %d: the attachment of %s: %d, %d bytes of %d, %v", l.rounds, id, status, len(got), len(k.att), err)
	}
	k.att = nil // once is enough
}

func (l *load) checkLocal(id string, k *kept) {
	status, body, err := l.http(http.MethodGet, l.hub.url+"/db/"+id, "")
	var doc struct {
		Rev string `json:"_rev"`
	}
	l.ok(err)
	if status == http.StatusOK {
		l.ok(json.Unmarshal(body, &doc))
	}
	switch {
	case doc.Rev == k.rev:
	case k.open && number(doc.Rev) == number(k.rev)+1:
		k.rev = doc.Rev
	default:
		l.Errorf("round %d: %s %s was acknowledged, and there is %d %q", l.rounds, id, k.rev, status, doc.Rev)
	}
}

// checkSignal looks once: signals expire.
func (l *load) checkSignal(id string, k *kept) {
	if k.rev != "" {
		if status, body, err := l.http(http.MethodGet, l.hub.url+"/hub/"+id, ""); status != http.StatusOK {
			l.Errorf("round %d: %s was acknowledged, and there is %d %s %v", l.rounds, id, status, body, err)
		}
	}
	k.rev = ""
}

// generation is the number at the start of a revision.
func generation(rev string) int64 {
	digits, _, _ := strings.Cut(rev, "-")
	n, _ := strconv.ParseInt(digits, 10, 64)
	return n
}

// number is what counts the revisions of a _local document, 0-N.
func number(rev string) int64 { return generation(strings.TrimPrefix(rev, "0-")) }

// report compares everything once more and tells how much it was.
func (l *load) report() {
	l.Helper()
	l.since = "0"
	l.check()
	live := 0
	for id, k := range l.docs {
		if !k.deleted && !strings.HasPrefix(id, "_local/") {
			live++
		}
	}
	if n := l.docCount(l.hub.url + "/db"); n != int64(live) {
		l.Errorf("doc_count %d, want %d", n, live)
	}
	l.Logf("%d kills: %d writes were acknowledged, the feeds told of %d sequences", l.rounds, l.acked, len(l.seqs))
}
