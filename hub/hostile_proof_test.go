package hub

import (
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/hubdoc"
)

// forAnybody is a hub database in which strangers may do everything.
func forAnybody() Config {
	all := []string{Anybody}
	return Config{Service: Service{Databases: []Database{{Name: "hub", List: all, Publish: all, Open: all, Signal: all}, {Name: "team"}}}}
}

// A hub that a peer talks to cannot use its proofs at another hub, whatever it changes on the way.
func TestProofsAreForOneHub(t *testing.T) {
	c := forAnybody()
	c.Hosts = []string{"hub.example.org", "other.example.org:8443", "*.wild.example"}
	c.TrustedProxies = nil
	s := startUsers(t, c)
	ann, bob := newDevice(t), newDevice(t)
	id, body := ann.signal(t, bob, nil)
	s.as("", "PUT", "/hub/"+id, body, 201)
	target, _ := url.Parse(s.url)
	evil := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target) // with the Host of the honest hub
	}})
	t.Cleanup(evil.Close)
	port := target.Port()
	sign := func(origin string) string {
		return ProofHeader + ": " + hubdoc.Proof{Origin: origin, Database: "hub", Method: "GET", Purpose: hubdoc.ToRead}.Sign(bob.key, time.Now())
	}
	through := *s
	through.url = evil.URL
	if a := through.do("GET", "/hub/"+id, "", sign(evil.URL)); a.StatusCode != 403 || !strings.Contains(string(a.body), "--host") {
		t.Errorf("through another hub: %d %s", a.StatusCode, a.body)
	}
	for origin, want := range map[string]int{
		s.url: 200, "http://localhost:" + port: 200, "http://[::1]:" + port: 200,
		"http://hub.example.org": 200, "https://hub.example.org": 200, "http://hub.example.org:" + port: 200, "https://other.example.org:8443": 200, "https://a.wild.example": 200,
		evil.URL: 403, "http://localhost": 403, "http://127.0.0.1": 403, "http://10.0.0.1:" + port: 403, "http://evil.example": 403, "http://evil.example:" + port: 403,
		"https://other.example.org": 403, "http://hub.example.org:1234": 403, "http://hub.example.org.evil.example": 403, "https://wild.example": 403, "https://a.b.wild.example": 403,
		"http://HUB.example.org": 403, "http://hub.example.org/": 403, "http://evil@hub.example.org": 403, "http://hub.example.org:80": 403,
		"ftp://hub.example.org": 403, "hub.example.org": 403, "null": 403, "http://": 403, "//hub.example.org": 403,
	} {
		if a := s.do("GET", "/hub/"+id, "", sign(origin)); a.StatusCode != want {
			t.Errorf("a proof for %q: %d %s", origin, a.StatusCode, a.body)
		}
	}
	for _, header := range []string{"X-Forwarded-For: 203.0.113.9", "Forwarded: for=203.0.113.9", "Via: 1.1 proxy", "X-Real-Ip: 203.0.113.9"} {
		// Of another machine's loopback interface, through the reverse proxy before this hub.
		if a := s.do("GET", "/hub/"+id, "", sign(s.url), header); a.StatusCode != 403 {
			t.Errorf("%s: %d", header, a.StatusCode)
		}
		if a := s.do("GET", "/hub/"+id, "", sign("https://hub.example.org"), header); a.StatusCode != 200 {
			t.Errorf("%s: %d %s", header, a.StatusCode, a.body)
		}
	}
	if a := s.do("GET", "/hub", "", sign(evil.URL), basicAuth("ann")); a.StatusCode != 200 {
		t.Errorf("a signed-in user needs no proof to read: %d", a.StatusCode)
	}
	share, body := bob.share(t, nil)
	proof := hubdoc.Proof{Origin: evil.URL, Database: "hub", Method: "PUT", Purpose: hubdoc.ToClaim}.Sign(bob.key, time.Now())
	for _, user := range []string{"", "eve"} {
		if a := s.as(user, "PUT", "/hub/"+share, body, 403, ProofHeader+": "+proof); !strings.Contains(string(a.body), "--host") {
			t.Errorf("%s", a.body)
		}
	}
}

// A proof is for one request: another database, method or purpose takes another one, and so does doing it again.
func TestProofsAreForOneRequest(t *testing.T) {
	s := startUsers(t, forAnybody())
	ann, bob := newDevice(t), newDevice(t)
	id, body := ann.signal(t, bob, nil)
	s.as("", "PUT", "/hub/"+id, body, 201)
	share, shareBody := bob.share(t, nil)
	proof := func(d *device, database, method string, purpose hubdoc.Purpose) string {
		return ProofHeader + ": " + hubdoc.Proof{Origin: s.url, Database: database, Method: method, Purpose: purpose}.Sign(d.key, time.Now())
	}
	read := proof(bob, "hub", "GET", hubdoc.ToRead)
	s.as("", "GET", "/hub/"+id, "", 200, read)
	s.as("", "GET", "/hub/"+id, "", 403, read)
	s.as("eve", "GET", "/hub/"+id, "", 403, read)
	s.as("", "GET", "/hub/"+id, "", 400, proof(bob, "team", "GET", hubdoc.ToRead))
	s.as("", "GET", "/hub/"+id, "", 400, proof(bob, "hub", "HEAD", hubdoc.ToRead))
	s.as("", "GET", "/hub/"+id, "", 403, proof(bob, "hub", "GET", hubdoc.ToClaim))
	s.as("", "GET", "/%68ub/"+id, "", 200, proof(bob, "hub", "GET", hubdoc.ToRead))
	s.as("", "GET", "/hub/"+id, "", 400, ProofHeader+": AAAA.1700000000.AAAA")
	for _, bad := range []string{
		proof(bob, "hub", "PUT", hubdoc.ToRead), proof(bob, "hub", "PUT", hubdoc.ToRelay), proof(bob, "hub", "PUT", "other"), proof(bob, "team", "PUT", hubdoc.ToClaim),
		proof(bob, "hub", "POST", hubdoc.ToClaim), proof(ann, "hub", "PUT", hubdoc.ToClaim),
		ProofHeader + ": " + hubdoc.Proof{Origin: s.url, Database: "hub", Method: "PUT", Purpose: hubdoc.ToClaim}.Sign(bob.key, time.Now().Add(-hubdoc.ProofAge-time.Minute)),
		ProofHeader + ": " + hubdoc.Proof{Origin: s.url, Database: "hub", Method: "PUT", Purpose: hubdoc.ToClaim}.Sign(bob.key, time.Now().Add(hubdoc.ProofAge+time.Minute)),
	} {
		if a := s.do("PUT", "/hub/"+share, shareBody, asJSON, bad); a.StatusCode != 400 && a.StatusCode != 403 {
			t.Errorf("%s: %d %s", bad, a.StatusCode, a.body)
		}
	}
	claim := proof(bob, "hub", "PUT", hubdoc.ToClaim)
	rev := s.as("", "PUT", "/hub/"+share, shareBody, 201, claim).rev(t)
	s.as("", "DELETE", "/hub/"+share+"?rev="+rev, "", 400, claim)
	relay := proof(bob, "hub", "POST", hubdoc.ToRelay)
	s.as("", "POST", "/hub/_relay", relayAsk(relayName(1), opens), 200, relay)
	s.as("", "POST", "/hub/_relay", relayAsk(relayName(2), opens), 403, relay)
	s.as("", "POST", "/hub/_relay", relayAsk(relayName(2), opens), 403, proof(bob, "hub", "POST", hubdoc.ToClaim))
}

// The nonces that a hub remembers are bounded, none can be used again, and no peer makes room at the expense of another.
func TestNoncesAreBounded(t *testing.T) {
	var n nonces
	now := time.Now()
	proofAt := func(peer string, i int, at time.Time) *hubdoc.Proof {
		return &hubdoc.Proof{Peer: peer, Nonce: hex.EncodeToString(fmt.Appendf(nil, "%016d", i)), Time: at}
	}
	honest := proofAt("honest", 0, now)
	if err := n.take(honest, "user ann", now); err != nil {
		t.Fatal(err)
	}
	for i := range 5 * maxNonces {
		if err := n.take(proofAt("evil", i, now.Add(time.Duration(i)*time.Millisecond)), "user eve", now); err != nil {
			t.Fatal(i, err)
		}
	}
	if size := len(n.peers["evil"].at); size > maxNonces {
		t.Errorf("%d nonces of one peer", size)
	}
	for i := range 5 * maxNonces {
		if n.take(proofAt("evil", i, now.Add(time.Duration(i)*time.Millisecond)), "user eve", now) == nil {
			t.Fatalf("proof %d is taken again", i)
		}
	}
	refused := 0
	for i := range 2 * maxProvers {
		if n.take(proofAt(fmt.Sprint("evil", i), 0, now), "user eve", now) != nil {
			refused++
		}
	}
	if refused < maxProvers || len(n.peers) > maxProvers+1 {
		t.Errorf("%d refused, %d peers", refused, len(n.peers))
	}
	if n.take(honest, "user bob", now) == nil {
		t.Error("the honest peer's proof is taken again")
	}
	if err := n.take(proofAt("honest", 1, now), "user ann", now); err != nil {
		t.Error(err)
	}
	n.sweep(now.Add(hubdoc.ProofAge)) // a proof of now may still come
	if n.peers["honest"] == nil {
		t.Error("forgotten too soon")
	}
	if n.sweep(now.Add(time.Hour)); len(n.peers)+len(n.of) > 0 {
		t.Errorf("%d peers of %d clients are not forgotten", len(n.peers), len(n.of))
	}
}

// A stranger with very many addresses and keys locks no other peer out, and what is forgotten of
// its proofs can be used again no more than others' can.
func TestNoncesOfManyAddresses(t *testing.T) {
	now := time.Now()
	for _, clients := range []int{maxAllProvers / maxProvers, 10_000, maxAllProvers} {
		var n nonces
		proofOf := func(peer string, made time.Time) *hubdoc.Proof {
			return &hubdoc.Proof{Peer: peer, Nonce: made.String(), Time: made}
		}
		honest := proofOf("honest", now)
		if err := n.take(honest, "address honest", now); err != nil {
			t.Fatal(err)
		}
		for i := range maxAllProvers + maxAllProvers/2 {
			made := now.Add(time.Duration(i) * time.Microsecond)
			_ = n.take(proofOf(fmt.Sprint("evil", i), made), fmt.Sprint("address evil", i%clients), made)
		}
		if len(n.peers) > maxAllProvers {
			t.Errorf("%d clients: %d peers are remembered", clients, len(n.peers))
		}
		later := now.Add(time.Second)
		if err := n.take(proofOf("new", later), "address new", later); err != nil {
			t.Errorf("%d clients lock a new peer out: %v", clients, err)
		}
		later = later.Add(time.Millisecond) // the one before may have made room
		if err := n.take(proofOf("honest", later), "address honest", later); err != nil {
			t.Errorf("%d clients lock a known peer out: %v", clients, err)
		}
		if n.take(honest, "address honest", later) == nil || n.take(proofOf("evil0", now), "address other", later) == nil {
			t.Errorf("%d clients: a proof is taken again", clients)
		}
	}
}

// A stranger who has read what a peer has signed gets nothing by writing it again: neither
// the peer, nor the share, in this hub database or in another one.
func TestPeersAreNotTakenOver(t *testing.T) {
	s := startUsers(t, Config{Service: Service{Databases: []Database{{Name: "hub"}, {Name: "team"}}}})
	other := startUsers(t, Config{})
	d, victim := newDevice(t), newDevice(t)
	share, body := d.share(t, nil)
	rev := s.as("ann", "PUT", "/hub/"+share, body, 201).rev(t)
	signal, signalBody := d.signal(t, victim, nil)
	s.as("ann", "PUT", "/hub/"+signal, signalBody, 201)
	own := func(s *server, db string) string { // eve's proof of her own key
		return s.proof(newDevice(t), "PUT", "/"+db+"/x", hubdoc.ToClaim)
	}
	for _, at := range []struct {
		s  *server
		db string
	}{{s, "hub"}, {s, "team"}, {other, "hub"}} {
		for id, body := range map[string]string{share: body, signal: signalBody} {
			for _, headers := range [][]string{{}, {own(at.s, at.db)}} {
				if a := at.s.do("PUT", "/"+at.db+"/"+id, body, append(headers, asJSON, basicAuth("eve"))...); a.StatusCode != 403 {
					t.Errorf("%s into %s: %d %s", id, at.db, a.StatusCode, a.body)
				}
				bulk := fmt.Sprintf(`{"docs":[{"_id":%q,%s]}`, id, body[1:])
				if a := at.s.do("POST", "/"+at.db+"/_bulk_docs", bulk, asJSON, basicAuth("eve")); !strings.Contains(string(a.body), "forbidden") {
					t.Errorf("%s into %s: %s", id, at.db, a.body)
				}
			}
		}
	}
	for _, owned := range []*server{s, other} {
		if a := owned.do("GET", "/hub/peer:"+d.id, "", basicAuth("root")); strings.Contains(string(a.body), "eve") {
			t.Errorf("eve owns the peer: %s", a.body)
		}
	}
	_, newer := d.share(t, func(s *hubdoc.Share) { s.Published = hubdoc.FormatTime(time.Now().Add(time.Second)) })
	s.as("ann", "PUT", "/hub/"+share+"?rev="+rev, newer, 201)
	s.as("ann", "PUT", "/team/"+share, newer, 201)
	other.as("ann", "PUT", "/hub/"+share, newer, 201)

	// What could not be written makes nobody an owner.
	mallory := newDevice(t)
	id, body := mallory.share(t, nil)
	s.as("eve", "PUT", "/hub/"+id+"?rev=1-abc", body, 409)
	s.as("root", "GET", "/hub/peer:"+mallory.id, "", 404)
	s.as("bob", "PUT", "/hub/"+id, body, 201)
}

// A withdrawn share does not come back by what was signed before, not even if an
// administrator or the peer's user writes it, nor after the hub was restarted.
func TestWithdrawnStaysSo(t *testing.T) {
	dir, c := t.TempDir(), forAnybody()
	s := startUsersIn(t, dir, c)
	d := newDevice(t)
	share, first := d.share(t, nil)
	rev := s.as("ann", "PUT", "/hub/"+share, first, 201).rev(t)
	_, second := d.share(t, func(s *hubdoc.Share) { s.Published = hubdoc.FormatTime(time.Now().Add(time.Second)) })
	rev = s.as("ann", "PUT", "/hub/"+share+"?rev="+rev, second, 201).rev(t)
	s.as("ann", "DELETE", "/hub/"+share+"?rev="+rev, "", 200)
	again := func(s *server) {
		t.Helper()
		for _, body := range []string{first, second} {
			for _, user := range []string{"ann", "eve", "root", ""} {
				s.as(user, "PUT", "/hub/"+share, body, 403)
			}
			s.as("ann", "PUT", "/hub/"+share+"?rev="+rev, body, 403) // over the last one
		}
		s.as("root", "GET", "/hub/"+share, "", 404)
	}
	again(s)
	if a := s.as("eve", "GET", "/hub/_all_docs", "", 200); strings.Contains(string(a.body), withdrawnPrefix) {
		t.Errorf("the hub's notes are seen: %s", a.body)
	}
	s.stop()
	s = startUsersIn(t, dir, c)
	again(s)
	_, third := d.share(t, func(s *hubdoc.Share) { s.Published = hubdoc.FormatTime(time.Now().Add(2 * time.Second)) })
	rev = s.as("ann", "PUT", "/hub/"+share, third, 201).rev(t) // the peer itself may share again
	s.as("root", "DELETE", "/hub/"+share+"?rev="+rev, "", 200)
	s.as("root", "PUT", "/hub/"+share, third, 403)
	stale, body := newDevice(t).share(t, func(s *hubdoc.Share) {
		s.Published, s.Expires = hubdoc.FormatTime(time.Now().Add(-hubdoc.SignalAge-time.Second)), hubdoc.FormatTime(time.Now().Add(20*time.Hour))
	})
	s.as("ann", "PUT", "/hub/"+stale, body, 403) // so the hub may forget after that time
	notes := left(t, openHub(t, s))
	if !notes[withdrawnID(share)] {
		t.Error("there is no note of what was withdrawn")
	}
	w := newSweeper(t)
	if err := w.sweep(t.Context(), openHub(t, s), time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if notes := left(t, openHub(t, s)); notes[withdrawnID(share)] {
		t.Error("the note is kept for ever")
	}
	// On a hub without accounts, too.
	open := start(t, Config{})
	rev = open.put("/hub/"+share, third)
	if a := open.do("DELETE", "/hub/"+share+"?rev="+rev, ""); a.StatusCode != 200 {
		t.Fatal(a.StatusCode)
	}
	if a := open.do("PUT", "/hub/"+share, third, asJSON); a.StatusCode != http.StatusForbidden {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
}

// openHub opens a server's hub database past its rules.
func openHub(t *testing.T, s *server) couch.DB {
	t.Helper()
	db, err := s.hub.c.Store.Open(t.Context(), "hub")
	if err != nil {
		t.Fatal(err)
	}
	return db
}

// A share that is withdrawn while what was signed before is on its way does not stay.
func TestWithdrawnMeanwhile(t *testing.T) {
	s := startUsers(t, Config{})
	d, db := newDevice(t), openHub(t, s)
	id, body := d.share(t, nil)
	doc := &couch.Doc{ID: id, Body: []byte(body)}
	parsed, err := hubdoc.ParseShare(doc)
	if err != nil {
		t.Fatal(err)
	}
	ruled := &ruledDB{DB: db, hub: s.hub.service.hubs["hub"], who: caller{user: user{Name: "ann"}}}
	w := &incoming{doc: doc, peer: d.id, share: parsed, till: time.Now(), undo: func() {}}
	if err := ruled.notWithdrawn(t.Context(), w); err != nil {
		t.Fatal(err) // it is looked at …
	}
	note := fmt.Appendf(nil, `{"type":"withdrawn","v":1,"published":%q,"expires":%q}`, parsed.Published, hubdoc.FormatTime(time.Now().Add(time.Minute)))
	rev := write(t, db, &couch.Doc{ID: withdrawnID(id), Body: note}, doc)[1] // … and arrives after the share was withdrawn
	if err := ruled.wrote(t.Context(), w, rev); couch.AsError(err) != errWithdrawn {
		t.Errorf("%v", err)
	}
	if _, err := db.Get(t.Context(), id, couch.GetOptions{}); err == nil {
		t.Error("the share is back")
	}
	s.as("root", "GET", "/hub/peer:"+d.id, "", 404)
}
