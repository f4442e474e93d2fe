package evil

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/loveseat-db/loveseat/e2e/proc"
	"github.com/loveseat-db/loveseat/e2e/signed"
	"github.com/loveseat-db/loveseat/internal/hubdoc"
	"github.com/loveseat-db/loveseat/share"
)

// stolen are attacks with proofs and ids that were right, at another time or for something else.
var stolen = []Attack{
	{Item: 7, Name: "proofs that were used, or made for something else", Run: reusesProofs, Stranger: true},
	{Item: 10, Name: "tickets of the relay for a side that is not the user's", Run: takesSides, Stranger: true},
	{Item: 14, Name: "the id of a share that is not for its holder any more", Run: keepsID, Stranger: true},
}

// A writer is an honest peer of the hub database "open" without an account, whose requests others have seen.
type writer struct {
	*signed.Peer
	t      *Target
	id     string // of its share
	body   []byte
	rev    string
	signal string // the id of one for it
}

// send makes a request to a hub database with headers Loveseat-Peer.
func (w *writer) send(ctx context.Context, as *Login, method, at string, body []byte, proofs ...string) (*answer, error) {
	h := headers("Content-Type", "application/json")
	h[hubdoc.ProofHeader] = proofs
	return do(ctx, method, w.t.Hub+at, request{as: as, header: h, body: text(string(body))})
}

// writer publishes a share, and has another peer signal to it. It returns the proof by which it did so.
func (t *Target) writer(ctx context.Context) (w *writer, used string, err error) {
	w = &writer{t: t}
	other, err := signed.New()
	if err == nil {
		w.Peer, err = signed.New()
	}
	if err == nil {
		w.id, w.body, err = w.Share(1)
	}
	if err != nil {
		return nil, "", err
	}
	used = w.Prove(t.Hub, "open", "PUT", hubdoc.ToClaim)
	a, err := w.send(ctx, nil, "PUT", "/open/"+w.id, w.body, used)
	if err != nil || a.Status != http.StatusCreated {
		return nil, "", notMade("publishing a share", fmt.Errorf("%v %w", a, err))
	}
	w.rev = member(a.Body, "rev")
	id, body, err := other.Signal(w.Peer, 1)
	if err != nil {
		return nil, "", err
	}
	w.signal = id
	if a, err = w.send(ctx, nil, "PUT", "/open/"+id, body, other.Prove(t.Hub, "open", "PUT", hubdoc.ToClaim)); err != nil || a.Status != http.StatusCreated {
		return nil, "", notMade("a signal", fmt.Errorf("%v %w", a, err))
	}
	return w, used, nil
}

const feed = "/_changes?include_docs=true"

// reusesProofs: nobody writes, deletes, reads signals or claims the peer with what it has shown or made for other requests.
func reusesProofs(ctx context.Context, t *Target) error {
	w, used, err := t.writer(ctx)
	if err != nil {
		return err
	}
	read := w.Prove(t.Hub, "open", "GET", hubdoc.ToRead)
	a, err := w.send(ctx, nil, "GET", "/open"+feed, nil, read)
	if err != nil || !strings.Contains(a.Body, w.signal) {
		return notMade("reading the peer's signals", fmt.Errorf("%v %w", a, err))
	}
	mine, err := signed.New()
	if err != nil {
		return err
	}
	next, body, err := w.Share(2) // which was not published yet
	if err != nil {
		return err
	}
	own := func(method string) string { return mine.Prove(t.Hub, "open", method, hubdoc.ToClaim) }
	words := strings.Fields(w.Prove(t.Hub, "open", "PUT", hubdoc.ToClaim))
	changed := func(i int, word string) string {
		other := append([]string{}, words...)
		other[i] = word
		return strings.Join(other, " ")
	}
	proofs := map[string][]string{
		"used": {used}, "used to read": {read}, "none": nil, "an earlier form": {"eA.eA.eA"},
		"another hub's":              {w.Prove(t.Guarded, "open", "PUT", hubdoc.ToClaim)},
		"another port's":             {w.Prove("http://127.0.0.1:1", "open", "PUT", hubdoc.ToClaim)},
		"another database's":         {w.Prove(t.Hub, "other", "PUT", hubdoc.ToClaim)},
		"another method's":           {w.Prove(t.Hub, "open", "COPY", hubdoc.ToClaim)},
		"to relay":                   {w.Prove(t.Hub, "open", "PUT", hubdoc.ToRelay)},
		"to read":                    {w.Prove(t.Hub, "open", "PUT", hubdoc.ToRead)},
		"of another's key":           {own("PUT")},
		"of two keys":                {own("PUT"), used},
		"of two keys in one line":    {own("PUT") + ", " + used},
		"with another nonce":         {changed(3, strings.Repeat("0", 32))},
		"with its nonce in capitals": {changed(3, strings.ToUpper(words[3]))},
		"with another purpose":       {changed(4, "relay")},
		"with another time":          {changed(2, fmt.Sprint(time.Now().UnixMilli()+1))},
		"with another origin":        {changed(5, t.Direct)},
	}
	docs := append(append([]byte(`{"docs":[`), body...), `]}`...)
	for what, proof := range proofs {
		for _, q := range []struct {
			method, at string
			body       []byte
		}{
			{"PUT", "/open/" + next, body}, {"PUT", "/%6fpen/" + next, body}, {"PUT", "/open/" + w.id + "?rev=" + w.rev, w.body},
			{"POST", "/open", body}, {"POST", "/open/_bulk_docs", docs}, {"DELETE", "/open/" + w.id + "?rev=" + w.rev, nil},
			{"PUT", "/other/" + next, body}, {"PUT", "/hub/" + next, body}, {"PUT", "/other/" + w.id, w.body},
		} {
			if strings.HasPrefix(q.at, "/other/") && what == "another database's" {
				continue // that is what it is for
			}
			for _, as := range []*Login{nil, &t.Mallory} {
				if a, err := w.send(ctx, as, q.method, q.at, q.body, proof...); err != nil {
					return notMade("a request", err)
				} else if wrote(a) {
					return fmt.Errorf("%s %s with a proof that is %s: %v", q.method, q.at, what, a)
				}
			}
		}
		for _, as := range []*Login{nil, &t.Mallory} {
			a, err := w.send(ctx, as, "GET", "/open"+feed, nil, proof...)
			if err == nil && strings.Contains(a.Body, w.signal) {
				return fmt.Errorf("signals are read with a proof that is %s: %v", what, a)
			}
		}
	}
	if a, err = w.send(ctx, nil, "DELETE", "/open/"+w.id+"?rev="+w.rev, nil, w.Prove(t.Hub, "open", "DELETE", hubdoc.ToClaim)); err != nil || a.Status != http.StatusOK {
		return fmt.Errorf("the owner cannot unshare any more: %v %w", a, err)
	}
	for _, proof := range []string{used, own("PUT")} {
		if a, err = w.send(ctx, &t.Mallory, "PUT", "/open/"+w.id, w.body, proof); err != nil || wrote(a) {
			return fmt.Errorf("the share is back: %v %w", a, err)
		}
	}
	return nil
}

// wrote reports whether a write went through; _bulk_docs tells for each document.
func wrote(a *answer) bool {
	return a.Status/100 == 2 && (!strings.HasPrefix(a.Body, "[") || strings.Contains(a.Body, `"ok":true`))
}

// takesSides asks for tickets of the relay that lead to opening a share, in a hub database where Mallory may not.
func takesSides(ctx context.Context, t *Target) error {
	p, err := signed.New()
	if err != nil {
		return err
	}
	session := strings.Repeat("s", 30) + fmt.Sprint(sharerNumber.Add(1))
	ask := func(db, body string, proof string) (*answer, error) {
		return do(ctx, "POST", t.Hub+db+"/_relay", request{as: &t.Mallory, header: headers("Content-Type", "application/json", hubdoc.ProofHeader, proof), body: text(body)})
	}
	open := fmt.Sprintf(`{"session":%q,"side":"open"}`, session)
	if a, err := ask("/open", open, p.Prove(t.Hub, "open", "POST", hubdoc.ToRelay)); err != nil || a.Status != http.StatusOK {
		return notMade("a ticket where Mallory may open", fmt.Errorf("%v %w", a, err))
	}
	for _, db := range []string{"/closed", "/%63losed", "/unlisted"} {
		for _, body := range []string{
			open, fmt.Sprintf(`{"session":%q}`, session), fmt.Sprintf(`{"session":%q,"side":""}`, session), fmt.Sprintf(`{"session":%q,"side":"OPEN"}`, session),
			fmt.Sprintf(`{"session":%q,"Side":"share","side":"open"}`, session), fmt.Sprintf(`{"session":%q,"side":"share","SIDE":"open"}`, session), fmt.Sprintf(`{"session":%q,"side":["open"]}`, session),
		} {
			for _, proof := range []string{p.Prove(t.Hub, strings.TrimPrefix(db, "/"), "POST", hubdoc.ToRelay), p.Prove(t.Hub, "open", "POST", hubdoc.ToRelay)} {
				if a, err := ask(db, body, proof); err != nil || a.Status < 400 {
					return fmt.Errorf("%s at %s gets %v %w", body, db, a, err)
				}
			}
		}
	}
	return nil
}

// keepsID: who has the id of a share that was for them has nothing when its database is shared again without them.
func keepsID(ctx context.Context, t *Target) error {
	var peers []string
	for range 2 {
		key, err := share.NewIdentity()
		if err != nil {
			return err
		}
		peers = append(peers, key.ID())
	}
	store := fmt.Sprintf("%s/again-%d", t.Dir, sharerNumber.Add(1))
	in := t.Loveseat(ctx, "import", store+"/again", "-", "--json")
	in.Stdin = text(`{"_id":"a"}`)
	if out, err := in.CombinedOutput(); err != nil {
		return notMade("loveseat import: "+string(out), err)
	}
	shared := func(allow string, during func(id string) error) error {
		p, err := proc.StartCmd(t.Loveseat(ctx, "share", with(t.Direct, t.Ann)+"/known", store+"/again", "--allow", allow, "--network", "127.0.0.0/8", "--json"))
		if err != nil {
			return notMade("loveseat share", err)
		}
		defer func() { _ = p.Stop() }()
		limited, cancel := context.WithTimeout(ctx, 30*time.Second)
		defer cancel()
		var e struct{ ID string }
		if err := p.Next(limited, "shared", &e); err != nil {
			return notMade("loveseat share", err)
		}
		return during(e.ID)
	}
	known := ""
	err := shared(peers[0]+","+peers[1], func(id string) error {
		known = id
		_, err := t.captured(ctx, "known", id)
		return err
	})
	if err != nil {
		return err
	}
	return shared(peers[1], func(id string) error {
		if id == known {
			return errors.New("a share that is for fewer has the id that the others know")
		}
		a, err := do(ctx, "GET", t.Hub+"/known/share:"+known, request{as: &t.Mallory})
		if err != nil || a.Status != http.StatusNotFound {
			return fmt.Errorf("the id that was known leads to %v %w", a, err)
		}
		if a, err = do(ctx, "GET", t.Hub+"/known"+feed+"&style=all_docs", request{as: &t.Mallory}); err != nil || strings.Contains(a.Body, id) {
			return fmt.Errorf("the new id is told: %v %w", a, err)
		}
		return nil
	})
}
