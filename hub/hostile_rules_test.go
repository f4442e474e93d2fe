package hub

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/loveseat-db/loveseat/internal/hubdoc"
)

// rightsOf are hub databases in which each user of [startUsers] has one right besides that to signal: ann opens, bob publishes, eve lists.
func rightsOf(t *testing.T) Config {
	t.Helper()
	all, err := ParseDatabases("hub list=e publish=b open=a signal=*; quiet signal=; dark list= publish= open= signal=*")
	if err != nil {
		t.Fatal(err)
	}
	return Config{Service: Service{Databases: all}}
}

// Every kind of signal asks for the right of what it leads to, and there are no others.
func TestSignalsNeedTheRight(t *testing.T) {
	s := startUsers(t, rightsOf(t))
	other := newDevice(t)
	const opener, sharer, lister = "ann", "bob", "eve"
	for kind, want := range map[string]map[string]int{
		"offer":     {opener: 201, sharer: 403, lister: 403, "": 401},
		"relay":     {opener: 201, sharer: 403, lister: 403, "": 401},
		"answer":    {opener: 403, sharer: 201, lister: 403, "": 401},
		"candidate": {opener: 201, sharer: 201, lister: 403, "": 401},
		"bye":       {opener: 201, sharer: 201, lister: 403, "": 401},
		"restart":   {opener: 201, sharer: 201, lister: 403, "": 401},
		"revoke":    {opener: 403, sharer: 403, lister: 403, "": 403}, // to another peer
		"revoked":   {opener: 403, sharer: 403, lister: 403, "": 403},
		"echo":      {opener: 403, sharer: 403, lister: 403, "": 403},
		"Offer":     {opener: 403, sharer: 403, lister: 403, "": 403},
		"OFFER":     {opener: 403, sharer: 403, "": 403},
		"offer ":    {opener: 403, sharer: 403, "": 403},
		"relayed":   {opener: 403, sharer: 403, "": 403},
	} {
		for user, status := range want {
			if got := sendAs(t, s, user, "hub", newDevice(t), other, kind); got != status {
				t.Errorf("%q by %q: %d, want %d", kind, user, got, status)
			}
		}
	}
	for kind, want := range map[string]map[string]int{"revoke": {opener: 403, sharer: 201, "": 401}, "revoked": {opener: 403, sharer: 201, "": 401}, "echo": {opener: 201, sharer: 201, lister: 403}} {
		for user, status := range want {
			own := newDevice(t)
			if got := sendAs(t, s, user, "hub", own, own, kind); got != status {
				t.Errorf("%q to itself by %q: %d, want %d", kind, user, got, status)
			}
		}
	}
	if got := sendAs(t, s, "ann", "quiet", newDevice(t), other, "offer"); got != 403 {
		t.Errorf("without the right to signal: %d", got)
	}
	if got := sendAs(t, s, "ann", "dark", newDevice(t), other, "candidate"); got != 403 {
		t.Errorf("without a right that a signal could lead to: %d", got)
	}
}

// sendAs sends a signal and returns the status.
func sendAs(t *testing.T, s *server, user, db string, from, to *device, kind string) int {
	t.Helper()
	id, body := from.signal(t, to, func(s *hubdoc.Signal) { s.Kind = kind })
	path := "/" + db + "/" + id
	headers := []string{asJSON, s.proof(from, "PUT", path, hubdoc.ToClaim)}
	if user != "" {
		headers = append(headers, basicAuth(user))
	}
	return s.do("PUT", path, body, headers...).StatusCode
}

// Neither does the relay lead past the rights: each side of a session takes its own.
func TestRelayNeedsTheRight(t *testing.T) {
	s := startUsers(t, rightsOf(t))
	ask := func(user, db, session string, of side) int {
		headers := []string{asJSON, s.proof(newDevice(t), "POST", "/"+db+"/_relay", hubdoc.ToRelay)}
		if user != "" {
			headers = append(headers, basicAuth(user))
		}
		return s.do("POST", "/"+db+"/_relay", relayAsk(session, of), headers...).StatusCode
	}
	name := relayName(1)
	for _, tt := range []struct {
		user, db string
		of       side
		status   int
	}{
		{"bob", "hub", opens, 403}, {"eve", "hub", opens, 403}, {"", "hub", opens, 401}, {"ann", "hub", opens, 200},
		{"ann", "hub", shares, 403}, {"eve", "hub", shares, 403}, {"", "hub", shares, 401},
		{"ann", "hub", opens, 403}, {"bob", "hub", shares, 200}, {"bob", "hub", shares, 403},
		{"ann", "quiet", opens, 403}, {"ann", "dark", opens, 403}, {"bob", "dark", shares, 403}, {"ann", "hub", either, 400}, {"ann", "hub", "Open", 400}, {"eve", "hub", either, 403},
	} {
		if got := ask(tt.user, tt.db, name, tt.of); got != tt.status {
			t.Errorf("%q asks for the side %q in %s: %d, want %d", tt.user, tt.of, tt.db, got, tt.status)
		}
	}
	for user, status := range map[string]int{"ann": 200, "bob": 200, "eve": 403, "": 401} {
		s.as(user, "GET", "/_ice", "", status)
	}
	s.as("root", "PUT", "/hub/_security", `{"members":{"names":["bob"]}}`, 200)
	s.as("ann", "GET", "/_ice", "", 403) // no member of a database in which it may connect
	s.as("bob", "GET", "/_ice", "", 200)
}

// Users who may not list shares are not told the ids of those that were there.
func TestTombstonesAreForListers(t *testing.T) {
	s := startUsers(t, rightsOf(t))
	d := newDevice(t)
	id, body := d.share(t, nil)
	rev := s.as("bob", "PUT", "/hub/"+id, body, 201).rev(t)
	feeds := map[string]func(string){}
	for _, user := range []string{"ann", "eve"} {
		lines, closer := s.open("/hub/_changes?feed=continuous&since=now&heartbeat=200", basicAuth(user))
		defer closer.Close()
		feeds[user] = func(want string) {
			t.Helper()
			for range 3 { // heartbeats are empty
				if line := next(t, lines); strings.Contains(line, id) != (want != "") {
					t.Errorf("%s's feed: %q", user, line)
				} else if want != "" {
					return
				}
			}
		}
	}
	s.as("bob", "DELETE", "/hub/"+id+"?rev="+rev, "", 200)
	feeds["eve"](id)
	for name, r := range map[string][3]string{
		"changes":    {"GET", "/hub/_changes", ""},
		"all leaves": {"GET", "/hub/_changes?style=all_docs&include_docs=true&descending=true", ""},
		"selector":   {"POST", "/hub/_changes?filter=_selector", `{"selector":{}}`},
		"longpoll":   {"GET", "/hub/_changes?feed=longpoll&timeout=100", ""},
		"eventsrc":   {"GET", "/hub/_changes?feed=eventsource&timeout=100", ""},
		"all_docs":   {"GET", "/hub/_all_docs?include_docs=true", ""},
		"find":       {"POST", "/hub/_find", `{"selector":{}}`},
	} {
		for user, want := range map[string]bool{"ann": false, "bob": false, "eve": strings.Contains(r[1], "_changes")} {
			a := s.as(user, r[0], r[1], r[2], 200)
			if got := strings.Contains(string(a.body), id); got != want {
				t.Errorf("%s by %s: %s", name, user, a.body)
			}
		}
	}
	byID := fmt.Sprintf(`{"doc_ids":[%q]}`, id)
	if a := s.as("ann", "POST", "/hub/_changes?filter=_doc_ids", byID, 200); !strings.Contains(string(a.body), id) {
		t.Errorf("who may open shares asks for the one it knows: %s", a.body)
	}
	if a := s.as("bob", "POST", "/hub/_changes?filter=_doc_ids", byID, 200); strings.Contains(string(a.body), `"id"`) {
		t.Errorf("bob may neither list nor open: %s", a.body)
	}
}

// One peer, one user and one address have so many shares and bytes of them, and so
// many signals that nobody takes; renewing is free, and others have their own.
func TestSharesAreCapped(t *testing.T) {
	dir := t.TempDir()
	c := forAnybody()
	c.Service.Quotas = Quotas{Shares: 3, ShareBytes: 20_000, Waiting: 5, WaitingBytes: 10_000}
	s := startUsersIn(t, dir, c)
	long, _ := json.Marshal(strings.Repeat("x", 6000))
	share := func(s *server, user string, d *device, n, after int, info json.RawMessage, status int, query string) string {
		t.Helper()
		id, body := d.share(t, func(s *hubdoc.Share) {
			s.Nonce, s.Info, s.Published = fmt.Sprint(n), info, hubdoc.FormatTime(time.Now().Add(time.Duration(after)*time.Second))
		})
		a := s.as(user, "PUT", "/hub/"+id+query, body, status)
		if status == 403 && !strings.Contains(string(a.body), "--limit-share") {
			t.Errorf("%s", a.body)
		}
		if status != 201 {
			return ""
		}
		return a.rev(t)
	}
	d := newDevice(t)
	var revs []string
	for n := range 3 {
		revs = append(revs, share(s, "eve", d, n, 0, nil, 201, ""))
	}
	share(s, "eve", d, 3, 0, nil, 403, "")
	renewed := share(s, "eve", d, 1, 1, nil, 201, "?rev="+revs[1])
	share(s, "ann", newDevice(t), 0, 0, nil, 201, "")
	heavy := newDevice(t)
	for n := range 2 {
		share(s, "bob", heavy, n, 0, long, 201, "")
	}
	rev := share(s, "bob", heavy, 2, 0, nil, 201, "")
	share(s, "bob", heavy, 2, 1, json.RawMessage(string(long[:len(long)-1])+strings.Repeat("y", 8000)+`"`), 403, "?rev="+rev) // the bytes count when it grows
	share(s, "bob", heavy, 2, 1, nil, 201, "?rev="+rev)
	for n := range clientShare*3 - 3 { // eve goes on under other keys
		share(s, "eve", newDevice(t), n, 0, nil, 201, "")
	}
	share(s, "eve", newDevice(t), 0, 0, nil, 403, "")
	share(s, "eve", d, 1, 2, nil, 201, "?rev="+renewed)
	for n := range clientShare * 3 { // and without signing in
		share(s, "", newDevice(t), n, 0, nil, 201, "")
	}
	share(s, "", newDevice(t), 0, 0, nil, 403, "")
	s.stop()
	s = startUsersIn(t, dir, c) // counts what is there
	share(s, "eve", d, 3, 0, nil, 403, "")
	share(s, "eve", newDevice(t), 0, 0, nil, 403, "")
	share(s, "bob", heavy, 4, 0, nil, 403, "")
	share(s, "ann", newDevice(t), 1, 0, nil, 201, "")
}

// Signals that nobody takes are bounded, for each peer, user and address; those that are taken make room.
func TestSignalsAreCapped(t *testing.T) {
	c := forAnybody()
	c.Service.Quotas = Quotas{Waiting: 5, WaitingBytes: 8000}
	s := startUsers(t, c)
	victim := newDevice(t)
	send := func(user string, from *device, payload, status int) (path string) {
		t.Helper()
		id, body := from.signal(t, victim, func(s *hubdoc.Signal) { s.Payload = make([]byte, payload) })
		a := s.as(user, "PUT", "/hub/"+id, body, status)
		if status == http.StatusTooManyRequests && (a.Header.Get("Retry-After") == "" || !strings.Contains(string(a.body), "--limit-waiting")) {
			t.Errorf("%v %s", a.Header, a.body)
		}
		if status == 201 {
			path = "/hub/" + id + "?rev=" + a.rev(t)
		}
		return path
	}
	d := newDevice(t)
	var last string
	for range 5 {
		last = send("eve", d, 10, 201)
	}
	send("eve", d, 10, 429)
	send("eve", newDevice(t), 10, 429)
	send("", newDevice(t), 10, 201)
	send("ann", newDevice(t), 6000, 429)
	send("ann", newDevice(t), 4000, 201)
	s.as("", "DELETE", last, "", 200, s.proof(victim, "DELETE", last, hubdoc.ToClaim))
	send("eve", d, 10, 201)
	send("eve", d, 10, 429)
	h := &s.hub.service.hubs["hub"].held
	h.mu.Lock()
	h.sweep(time.Now().Add(time.Hour))
	if len(h.docs)+len(h.sums) > 0 {
		t.Errorf("%d signals of %d are counted for ever", len(h.docs), len(h.sums))
	}
	h.mu.Unlock()
	send("eve", d, 10, 201)
}

// A hub answers to its own names, whoever may use it: no other name can be made to mean it.
func TestHostsOfAHub(t *testing.T) {
	s := startUsers(t, Config{Hosts: []string{"hub.example.org", "named.example:8443", "*.wild.example", "Upper.Example."}, CertificateHosts: func() []string { return []string{"cert.example", "*.certs.example", "not a name"} }})
	s.hub.machine = "mybox"
	for host, status := range map[string]int{
		"localhost": 200, "a.localhost:1": 200, "127.0.0.1": 200, "[::1]:5984": 200, "10.1.2.3:5984": 200, "[2001:db8::1]": 200, "203.0.113.7": 200,
		"hub.example.org": 200, "HUB.example.org:5984": 200, "hub.example.org.": 200, "named.example": 200, "named.example:1": 200, "upper.example": 200,
		"a.wild.example": 200, "cert.example:443": 200, "a.certs.example": 200, "mybox": 200, "mybox.local:5984": 200,
		"evil.example": 403, "evil.example:5984": 403, "localhost.evil.example": 403, "127.0.0.1.evil.example": 403, "hub.example.org.evil.example": 403, "wild.example": 403,
		"a.b.wild.example": 403, "xhub.example.org": 403, "mybox.evil.example": 403, "0x7f000001": 403, "2130706433": 403, "127.1": 403,
	} {
		for _, path := range []string{"/", "/_up", "/_utils/", "/hub/_all_docs"} {
			a := s.do("GET", path, "", "Host: "+host, basicAuth("ann"))
			if a.StatusCode != status || status == 403 && !strings.Contains(string(a.body), "--host") {
				t.Errorf("%s of %s: %d %s", path, host, a.StatusCode, a.body)
			}
		}
	}
	if names := strings.Join(s.hub.Hosts(), " "); !strings.Contains(names, "named.example:8443") || !strings.Contains(names, "mybox.local") || !strings.Contains(names, "*.certs.example") {
		t.Errorf("it answers to %s", names)
	}
	open := start(t, Config{Hosts: []string{"devbox.example"}, CertificateHosts: func() []string { return []string{"cert.example"} }})
	for host, status := range map[string]int{"localhost": 200, "devbox.example:5984": 200, "cert.example": 403, "10.0.0.1": 403, "evil.example": 403} {
		if a := open.do("GET", "/", "", "Host: "+host); a.StatusCode != status {
			t.Errorf("without accounts, %s: %d", host, a.StatusCode)
		}
	}
	for _, bad := range []string{"", ":80", "http://hub.example.org", "hub.example.org/hub", "hub.example.org:http", "a b", "*", "*.", "a.*.b", "hub.example.org:99999"} {
		if n, err := parseHost(bad); err == nil {
			t.Errorf("%q: %+v", bad, n)
		}
	}
}
