package hub

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/loveseat-db/loveseat/internal/hubdoc"
)

// A device is a peer's keys.
type device struct {
	key  ed25519.PrivateKey
	id   string
	seal []byte
}

func newDevice(t testing.TB) *device {
	t.Helper()
	pub, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	d := &device{key, hubdoc.PeerID(pub), make([]byte, 32)}
	devices.Store(d.id, d)
	return d
}

// devices are those of all tests, by their ids.
var devices sync.Map

// signerOf returns the device that has signed the first document of a request's body, nil if there is none.
func signerOf(body string) *device {
	m := signerForm.FindStringSubmatch(body)
	if m == nil {
		return nil
	}
	d, _ := devices.Load(m[1])
	found, _ := d.(*device)
	return found
}

var signerForm = regexp.MustCompile(`"(?:peer|from)":"([a-z2-7-]{39})`)

// proof makes the header by which a device shows a hub that it is asking.
func (s *server) proof(d *device, method, path string, purpose hubdoc.Purpose) string {
	return ProofHeader + ": " + hubdoc.Proof{Origin: s.url, Database: strings.Split(path, "/")[1], Method: method, Purpose: purpose}.Sign(d.key, time.Now())
}

func (d *device) keys() hubdoc.Keys {
	return hubdoc.Keys{Sign: d.key.Public().(ed25519.PublicKey), Seal: d.seal}
}

// sign encodes and signs a document's body.
func (d *device) sign(t testing.TB, id string, v any) string {
	t.Helper()
	body, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	text, err := hubdoc.Canonical(id, body, "signature")
	if err != nil {
		t.Fatal(err)
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(body, &members); err != nil {
		t.Fatal(err)
	}
	members["signature"], _ = json.Marshal(ed25519.Sign(d.key, text))
	body, _ = json.Marshal(members)
	return string(body)
}

// share makes a share document; change may be nil.
func (d *device) share(t testing.TB, change func(*hubdoc.Share)) (id, body string) {
	t.Helper()
	now := time.Now()
	s := hubdoc.Share{Type: "share", Version: 1, Name: "notes", DB: "notes", Peer: d.id, Instance: "i", Keys: d.keys(), Nonce: "n",
		Access: hubdoc.ReadWrite, Published: hubdoc.FormatTime(now), Expires: hubdoc.FormatTime(now.Add(time.Minute))}
	if change != nil {
		change(&s)
	}
	id = "share:" + hubdoc.ShareID(d.id, s.Nonce)
	return id, d.sign(t, id, s)
}

// signal makes a signal; change may be nil.
func (d *device) signal(t testing.TB, to *device, change func(*hubdoc.Signal)) (id, body string) {
	t.Helper()
	now := time.Now()
	id = hubdoc.SignalID(now, fmt.Sprintf("%016x", now.UnixNano()))
	s := hubdoc.Signal{Type: "signal", Version: 1, To: hubdoc.Address(to.id, "i"), From: hubdoc.Address(d.id, "i"), Keys: d.keys(), Session: "s", Kind: "offer",
		Time: hubdoc.FormatTime(now), Expires: hubdoc.FormatTime(now.Add(time.Minute)), Payload: []byte("sealed")}
	if change != nil {
		change(&s)
	}
	return id, d.sign(t, id, s)
}

func basicAuth(name string) string {
	return "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(name+":secret"))
}

// startUsers starts a hub with the administrator root and the users ann, bob and eve, whose role is their initial.
func startUsers(t *testing.T, c Config) *server {
	t.Helper()
	return startUsersIn(t, t.TempDir(), c)
}

func startUsersIn(t *testing.T, dir string, c Config) *server {
	t.Helper()
	c.Admin = &Admin{"root", "secret"}
	s := startIn(t, dir, c)
	for _, name := range []string{"ann", "bob", "eve"} {
		body := fmt.Sprintf(`{"type":"user","name":%q,"password":"secret","roles":[%q]}`, name, name[:1])
		if a := s.do("PUT", "/_users/org.couchdb.user:"+name, body, basicAuth("root")); a.StatusCode != 201 && a.StatusCode != 409 {
			t.Fatalf("%d %s", a.StatusCode, a.body)
		}
	}
	return s
}

// as sends a request as a user ("" for nobody), with the proof of the device that signed
// what is written, and checks the status.
func (s *server) as(user, method, path, body string, status int, headers ...string) *answer {
	s.t.Helper()
	headers = append(headers, asJSON)
	if d := signerOf(body); d != nil && !strings.HasPrefix(headers[0], ProofHeader) {
		headers = append(headers, s.proof(d, method, path, hubdoc.ToClaim))
	}
	if user != "" {
		headers = append(headers, basicAuth(user))
	}
	a := s.do(method, path, body, headers...)
	if a.StatusCode != status {
		s.t.Errorf("%s %s %.300s by %q: %d %s, want %d", method, path, body, user, a.StatusCode, a.body, status)
	}
	return a
}

func (a *answer) rev(t *testing.T) string {
	t.Helper()
	var v struct{ Rev string }
	if err := json.Unmarshal(a.body, &v); err != nil || v.Rev == "" {
		t.Fatalf("no revision in %s", a.body)
	}
	return v.Rev
}

// Only what is a share or a signal, well-formed and signed by its peer, gets into a hub database.
func TestWritesAreValidated(t *testing.T) {
	s := startUsers(t, Config{})
	d, other := newDevice(t), newDevice(t)
	goodID, good := d.share(t, nil)
	past := func(s *hubdoc.Share) {
		s.Published, s.Expires = hubdoc.FormatTime(time.Now().Add(-time.Hour)), hubdoc.FormatTime(time.Now().Add(-time.Minute*50))
	}
	otherID, _ := other.share(t, nil)
	signalID, signal := d.signal(t, other, nil)
	shareWith := func(change func(*hubdoc.Share)) [2]string { id, b := d.share(t, change); return [2]string{id, b} }
	signalWith := func(change func(*hubdoc.Signal)) [2]string {
		id, b := d.signal(t, other, change)
		return [2]string{id, b}
	}
	for name, tt := range map[string]struct {
		doc    [2]string
		status int
	}{
		"another type":        {[2]string{"notes", `{"type":"share"}`}, 403},
		"no share":            {[2]string{goodID, `{}`}, 403},
		"another's id":        {[2]string{otherID, good}, 403},
		"changed":             {[2]string{goodID, strings.Replace(good, "notes", "motes", 1)}, 403},
		"added":               {[2]string{goodID, strings.Replace(good, "{", `{"x":1,`, 1)}, 403},
		"expired":             {shareWith(past), 403},
		"long lease":          {shareWith(func(s *hubdoc.Share) { s.Expires = hubdoc.FormatTime(time.Now().Add(48 * time.Hour)) }), 403},
		"from the future":     {shareWith(func(s *hubdoc.Share) { s.Published = hubdoc.FormatTime(time.Now().Add(time.Hour)) }), 403},
		"no name":             {shareWith(func(s *hubdoc.Share) { s.Name = "" }), 403},
		"too large":           {shareWith(func(s *hubdoc.Share) { s.Info, _ = json.Marshal(strings.Repeat("x", 70<<10)) }), 413},
		"with an attachment":  {[2]string{goodID, strings.Replace(good, "{", `{"_attachments":{"a":{"data":"","content_type":"a/b"}},`, 1)}, 403},
		"deleted with a body": {[2]string{goodID, strings.Replace(good, "{", `{"_deleted":true,`, 1)}, 403},
		"signal, other id":    {[2]string{"signal:x", signal}, 403},
		"signal, forged":      {[2]string{signalID, strings.Replace(signal, "offer", "other", 1)}, 403},
		"signal, from other":  {signalWith(func(s *hubdoc.Signal) { s.From = hubdoc.Address(other.id, "i") }), 403},
		"signal, stale":       {signalWith(func(s *hubdoc.Signal) { s.Time = hubdoc.FormatTime(time.Now().Add(-time.Hour)) }), 403},
		"signal, no session":  {signalWith(func(s *hubdoc.Signal) { s.Session = "" }), 403},
		"signal, too large":   {signalWith(func(s *hubdoc.Signal) { s.Payload = make([]byte, 128<<10) }), 413},
		"a design document":   {[2]string{"_design/x", `{}`}, 403},
		"a local document":    {[2]string{"_local/x", `{}`}, 403},
		"an owner":            {[2]string{"peer:" + d.id, `{"type":"peer","v":1,"user":"eve","expires":"2999-01-01T00:00:00.000Z"}`}, 403},
	} {
		t.Run(name, func(t *testing.T) {
			s := *s
			s.t = t
			s.as("ann", "PUT", "/hub/"+tt.doc[0], tt.doc[1], tt.status)
			bulk := fmt.Sprintf(`{"docs":[%s]}`, strings.Replace(tt.doc[1], "{", fmt.Sprintf(`{"_id":%q,`, tt.doc[0]), 1))
			bulk = strings.Replace(bulk, ",}", "}", 1)
			if a := s.as("ann", "POST", "/hub/_bulk_docs", bulk, 201); !strings.Contains(string(a.body), `"error"`) {
				t.Errorf("%s", a.body)
			}
			if name != "a design document" && name != "a local document" && name != "another type" && name != "an owner" && !strings.HasPrefix(name, "deleted") {
				if strings.HasPrefix(tt.doc[0], "share:") || strings.HasPrefix(tt.doc[0], "signal:") {
					s.as("root", "PUT", "/hub/"+tt.doc[0], tt.doc[1], tt.status) // an administrator is no exception
				}
			}
		})
	}
	s.as("ann", "PUT", "/hub/"+goodID, good, 201)
	s.as("ann", "PUT", "/hub/"+signalID, signal, 201)
	for _, r := range [][3]string{
		{"PUT", "/hub/_security", `{}`}, {"GET", "/hub/_security", ""}, {"DELETE", "/hub", ""}, {"PUT", "/hub/" + goodID + "/att", "x"},
		{"POST", "/hub/_revs_diff", `{"x":["1-a"]}`}, {"PUT", "/hub/_design/x", `{}`}, {"PUT", "/hub/_local/x", `{}`},
	} {
		if a := s.do(r[0], r[1], r[2], basicAuth("ann"), asJSON); a.StatusCode < 401 || a.StatusCode > 409 {
			t.Errorf("%s %s: %d %s", r[0], r[1], a.StatusCode, a.body)
		}
	}
	id, body := other.share(t, nil)
	replicated := `{"new_edits":false,"docs":[` + strings.Replace(body, "{", fmt.Sprintf(`{"_id":%q,"_rev":"5-abc",`, id), 1) + `]}`
	if a := s.as("ann", "POST", "/hub/_bulk_docs", replicated, 201); !strings.Contains(string(a.body), "forbidden") {
		t.Errorf("replicated: %s", a.body)
	}
	s.as("", "GET", "/hub", "", 401)
	s.as("", "PUT", "/hub/"+id, body, 401)
}

// A share is changed and removed by its owner alone: the device, and its user.
func TestShareOwner(t *testing.T) {
	s := startUsers(t, Config{})
	d := newDevice(t)
	id, old := d.share(t, nil)
	rev := s.as("ann", "PUT", "/hub/"+id, old, 201).rev(t)
	_, newer := d.share(t, func(s *hubdoc.Share) { s.Published = hubdoc.FormatTime(time.Now().Add(time.Second)) })
	s.as("eve", "PUT", "/hub/"+id+"?rev="+rev, newer, 403) // signed by the right key, but ann's
	s.as("eve", "DELETE", "/hub/"+id+"?rev="+rev, "", 403)
	rev2 := s.as("ann", "PUT", "/hub/"+id+"?rev="+rev, newer, 201).rev(t)
	s.as("ann", "PUT", "/hub/"+id+"?rev="+rev2, old, 403) // what was signed earlier
	s.as("ann", "DELETE", "/hub/"+id+"?rev="+rev, "", 409)
	s.as("ann", "DELETE", "/hub/"+id+"?rev="+rev2, "", 200)
	s.as("eve", "PUT", "/hub/"+id, newer, 403)
	s.as("ann", "GET", "/hub/peer:"+d.id, "", 404)
	if a := s.as("root", "GET", "/hub/peer:"+d.id, "", 200); !strings.Contains(string(a.body), `"user":"ann"`) {
		t.Errorf("%s", a.body)
	}
}

// signalsSeen asks in every way for signals, and returns the ids that each way tells.
func (s *server) signalsSeen(user, id string) map[string]bool {
	s.t.Helper()
	return s.signalsSeenBy(user, id, nil)
}

// signalsSeenBy asks with the proof of a device.
func (s *server) signalsSeenBy(user, id string, by *device) map[string]bool {
	s.t.Helper()
	seen := map[string]bool{}
	for name, r := range map[string][3]string{
		"get":       {"GET", "/hub/" + id, ""},
		"open_revs": {"GET", "/hub/" + id + "?open_revs=all", ""},
		"all_docs":  {"GET", "/hub/_all_docs", ""},
		"docs":      {"GET", "/hub/_all_docs?include_docs=true", ""},
		"keys":      {"POST", "/hub/_all_docs?include_docs=true", fmt.Sprintf(`{"keys":[%q]}`, id)},
		"changes":   {"GET", "/hub/_changes", ""},
		"doc_ids":   {"POST", "/hub/_changes?filter=_doc_ids&include_docs=true", fmt.Sprintf(`{"doc_ids":[%q]}`, id)},
		"selector":  {"POST", "/hub/_changes?filter=_selector", `{"selector":{"type":"signal"}}`},
		"limit":     {"GET", "/hub/_changes?include_docs=true&descending=true", ""},
		"find":      {"POST", "/hub/_find", `{"selector":{"type":"signal"},"fields":["_id","session","type"]}`},
		"bulk_get":  {"POST", "/hub/_bulk_get", fmt.Sprintf(`{"docs":[{"id":%q}]}`, id)},
	} {
		hs := []string{asJSON}
		if by != nil {
			hs = append(hs, s.proof(by, r[0], r[1], hubdoc.ToRead))
		}
		if user != "" {
			hs = append(hs, basicAuth(user))
		}
		a := s.do(r[0], r[1], r[2], hs...)
		if a.StatusCode >= 500 || a.StatusCode == 401 {
			s.t.Errorf("%s: %d %s", name, a.StatusCode, a.body)
		}
		text := string(a.body)
		seen[name] = strings.Contains(text, `"session":"s"`) || strings.Contains(text, `"rev":`) && strings.Contains(text, id) && !strings.Contains(text, "not_found")
	}
	return seen
}

// Nobody reads others' signals, whatever the way of asking.
func TestSignalsAreTheirRecipients(t *testing.T) {
	s := startUsers(t, Config{})
	ann, bob := newDevice(t), newDevice(t)
	shareID, body := bob.share(t, nil)
	s.as("bob", "PUT", "/hub/"+shareID, body, 201)
	id, body := ann.signal(t, bob, nil)
	rev := s.as("ann", "PUT", "/hub/"+id, body, 201).rev(t)
	for user, want := range map[string]bool{"ann": true, "bob": true, "eve": false, "root": true} {
		for way, seen := range s.signalsSeen(user, id) {
			if seen != want {
				t.Errorf("%s by %s: seen %v", way, user, seen)
			}
		}
	}
	s.as("eve", "GET", "/hub/"+shareID, "", 200)           // shares are for all
	s.as("eve", "DELETE", "/hub/"+id+"?rev="+rev, "", 404) // as if it were not there
	_, forged := newDevice(t).signal(t, bob, nil)
	s.as("eve", "PUT", "/hub/"+id+"?rev="+rev, forged, 403)
	if a := s.as("bob", "GET", "/hub/_all_docs?limit=1&skip=1", "", 200); !strings.Contains(string(a.body), id) || strings.Contains(string(a.body), shareID) {
		t.Errorf("skip and limit count what is seen: %s", a.body)
	}
	s.as("bob", "DELETE", "/hub/"+id+"?rev="+rev, "", 200)
}

// A waiting feed is not woken by others' signals.
func TestFeedOfOnesOwn(t *testing.T) {
	s := startUsers(t, Config{})
	ann, bob, eve := newDevice(t), newDevice(t), newDevice(t)
	for user, d := range map[string]*device{"ann": ann, "bob": bob, "eve": eve} {
		id, body := d.share(t, nil)
		s.as(user, "PUT", "/hub/"+id, body, 201)
	}
	lines, closer := s.open("/hub/_changes?feed=continuous&since=now&include_docs=true&heartbeat=10000", basicAuth("bob"))
	defer closer.Close()
	toEve, body := ann.signal(t, eve, nil)
	s.as("ann", "PUT", "/hub/"+toEve, body, 201)
	toBob, body := ann.signal(t, bob, nil)
	s.as("ann", "PUT", "/hub/"+toBob, body, 201)
	for {
		line := next(t, lines)
		if strings.Contains(line, toEve) {
			t.Fatalf("bob was told %s", line)
		}
		if strings.Contains(line, toBob) {
			return
		}
	}
}

// Who is not signed in proves which peer it is, where it is let in at all.
func TestAnonymousPeers(t *testing.T) {
	s := startUsers(t, Config{Service: Service{Databases: []Database{
		{Name: "hub", List: []string{Anybody}, Publish: []string{Anybody}, Open: []string{Anybody}, Signal: []string{Anybody}},
	}}})
	ann, bob := newDevice(t), newDevice(t)
	shareID, body := bob.share(t, nil)
	rev := s.as("", "PUT", "/hub/"+shareID, body, 201).rev(t)
	id, body := ann.signal(t, bob, nil)
	s.as("", "PUT", "/hub/"+id, body, 201)
	for name, tt := range map[string]struct {
		by   *device
		want bool
	}{"nobody": {nil, false}, "sender": {ann, true}, "recipient": {bob, true}, "other": {newDevice(t), false}} {
		for way, seen := range s.signalsSeenBy("", id, tt.by) {
			if seen != tt.want {
				t.Errorf("%s by %s: seen %v", way, name, seen)
			}
		}
	}
	s.as("", "GET", "/hub", "", 400, ProofHeader+": nonsense")
	s.as("", "GET", "/hub/"+id, "", 404, ProofHeader+": "+hubdoc.Proof{Origin: s.url, Database: "hub", Method: "GET", Purpose: hubdoc.ToRead}.Sign(ann.key, time.Now().Add(-time.Hour)))
	path := "/hub/" + shareID + "?rev=" + rev
	s.as("", "DELETE", path, "", 403)
	s.as("", "DELETE", path, "", 403, s.proof(ann, "DELETE", path, hubdoc.ToClaim))
	s.as("", "DELETE", path, "", 200, s.proof(bob, "DELETE", path, hubdoc.ToClaim))
	s.as("", "PUT", "/hub/_design/x", "{}", 401)
}

// Each right is a matter of roles.
func TestRights(t *testing.T) {
	team, err := ParseDatabase("team list=a publish=a,b open=b signal=a,b")
	if err != nil {
		t.Fatal(err)
	}
	s := startUsers(t, Config{Service: Service{Databases: []Database{{Name: "hub"}, team}}})
	ann, bob, eve := newDevice(t), newDevice(t), newDevice(t)
	idA, body := ann.share(t, nil)
	s.as("ann", "PUT", "/team/"+idA, body, 201)
	idB, body := bob.share(t, nil)
	s.as("bob", "PUT", "/team/"+idB, body, 201)
	idE, body := eve.share(t, nil)
	s.as("eve", "PUT", "/team/"+idE, body, 403)
	s.as("eve", "PUT", "/hub/"+idE, body, 201)
	s.as("eve", "GET", "/team", "", 403)
	if a := s.as("ann", "GET", "/team/_all_docs", "", 200); !strings.Contains(string(a.body), idB) {
		t.Errorf("ann lists: %s", a.body)
	}
	if a := s.as("bob", "GET", "/team/_all_docs", "", 200); strings.Contains(string(a.body), idA) || !strings.Contains(string(a.body), idB) {
		t.Errorf("bob lists: %s", a.body) // his own alone
	}
	s.as("bob", "GET", "/team/"+idA, "", 200) // by its id
	offer, body := ann.signal(t, bob, nil)
	s.as("ann", "PUT", "/team/"+offer, body, 403)
	answer, body := ann.signal(t, bob, func(s *hubdoc.Signal) { s.Kind = "answer" })
	s.as("ann", "PUT", "/team/"+answer, body, 201)
	offer, body = bob.signal(t, ann, nil)
	s.as("bob", "PUT", "/team/"+offer, body, 201)
	s.as("eve", "GET", "/_ice", "", 200)
	s.as("", "GET", "/_ice", "", 401)
}

func TestParseDatabase(t *testing.T) {
	for _, bad := range []string{"", "x list", "x read=a", "x list=a list=b"} {
		if d, err := ParseDatabase(bad); err == nil {
			t.Errorf("%q: %+v", bad, d)
		}
	}
	all, err := ParseDatabases("hub; team list=* publish= signal=a,b")
	if err != nil || len(all) != 2 || all[1].Name != "team" || all[1].Publish == nil || len(all[1].Publish) != 0 || len(all[1].Signal) != 2 || all[1].Open != nil || all[1].List[0] != Anybody {
		t.Errorf("%+v %v", all, err)
	}
}

// Databases that are not hub databases know no rules.
func TestOtherDatabasesAreFree(t *testing.T) {
	s := startUsers(t, Config{})
	s.as("root", "PUT", "/notes", "", 201)
	s.as("root", "PUT", "/notes/_security", `{"members":{"names":["ann"]}}`, 200)
	s.as("ann", "PUT", "/notes/share:x", `{"x":1}`, 201)
	s.as("ann", "PUT", "/notes/_local/x", `{"x":1}`, 201)
	if a := s.as("ann", "GET", "/notes/_changes", "", http.StatusOK); !strings.Contains(string(a.body), "share:x") {
		t.Errorf("%s", a.body)
	}
}
