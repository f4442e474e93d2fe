package hub

import (
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// access is who may use each endpoint. A route that is missing here fails
// TestAuthorizationMatrix: whoever adds one says who may use it.
var access = map[string]right{
	"GET /": forAll, "HEAD /": forAll,
	"GET /_up": forAll, "HEAD /_up": forAll,
	"GET /_uuids": forAll, "HEAD /_uuids": forAll,
	"GET /_session": forAll, "HEAD /_session": forAll, "POST /_session": forAll, "DELETE /_session": forAll,
	"GET /_ice": forAll, "HEAD /_ice": forAll, // to users; see below
	"POST /hub/_relay": forAll, "GET /hub/_relay": forAll, // the same; with a ticket
	"GET /_utils/": forAll, "HEAD /_utils/": forAll, // the page, which asks the API for what it shows
	"GET /_metrics": forAdmins, "HEAD /_metrics": forAdmins,
	"GET /_all_dbs": forAdmins, "HEAD /_all_dbs": forAdmins,
	"GET /_active_tasks": forAdmins, "HEAD /_active_tasks": forAdmins,
	"GET /_dbs_info": forAdmins, "HEAD /_dbs_info": forAdmins, "POST /_dbs_info": forAdmins,
	"GET /_membership": forAdmins, "HEAD /_membership": forAdmins,

	"GET /:db": forMembers, "HEAD /:db": forMembers, "POST /:db": forMembers,
	"PUT /:db": forAdmins, "DELETE /:db": forAdmins,
	"POST /:db/_bulk_docs": forMembers, "POST /:db/_bulk_get": forMembers,
	"GET /:db/_all_docs": forMembers, "HEAD /:db/_all_docs": forMembers, "POST /:db/_all_docs": forMembers,
	"GET /:db/_design_docs": forMembers, "HEAD /:db/_design_docs": forMembers, "POST /:db/_design_docs": forMembers,
	"POST /:db/_all_docs/queries": forMembers, "POST /:db/_design_docs/queries": forMembers,
	"GET /:db/_changes": forMembers, "HEAD /:db/_changes": forMembers, "POST /:db/_changes": forMembers,
	"POST /:db/_revs_diff": forMembers, "POST /:db/_missing_revs": forMembers,
	"POST /:db/_find": forMembers, "POST /:db/_explain": forMembers, "GET /:db/_index": forMembers, "HEAD /:db/_index": forMembers,
	"GET /:db/_security": forMembers, "HEAD /:db/_security": forMembers, "PUT /:db/_security": forDBAdmins,
	"GET /:db/_revs_limit": forMembers, "HEAD /:db/_revs_limit": forMembers,
	"POST /:db/_ensure_full_commit": forMembers,
	"POST /:db/_purge":              forAdmins, "POST /:db/_compact": forDBAdmins,
	"POST /:db/_compact/:index": forDBAdmins, "POST /:db/_view_cleanup": forDBAdmins,

	"GET /:db/_local": forMembers, "HEAD /:db/_local": forMembers, "PUT /:db/_local": forMembers, "DELETE /:db/_local": forMembers,
	"GET /:db/_local/:local": forMembers, "HEAD /:db/_local/:local": forMembers, "PUT /:db/_local/:local": forMembers, "DELETE /:db/_local/:local": forMembers,
	"GET /:db/_local/:local/*": forMembers, "HEAD /:db/_local/:local/*": forMembers, "PUT /:db/_local/:local/*": forMembers, "DELETE /:db/_local/:local/*": forMembers,
	"GET /:db/_design/:ddoc": forMembers, "HEAD /:db/_design/:ddoc": forMembers, "COPY /:db/_design/:ddoc": forMembers,
	"POST /:db/_design/:ddoc": forDBAdmins, "PUT /:db/_design/:ddoc": forDBAdmins, "DELETE /:db/_design/:ddoc": forDBAdmins,
	"GET /:db/_design/:ddoc/*": forMembers, "HEAD /:db/_design/:ddoc/*": forMembers, "PUT /:db/_design/:ddoc/*": forDBAdmins, "DELETE /:db/_design/:ddoc/*": forDBAdmins,
	"POST /:db/:doc": forMembers, "GET /:db/:doc": forMembers, "HEAD /:db/:doc": forMembers, "PUT /:db/:doc": forMembers, "DELETE /:db/:doc": forMembers, "COPY /:db/:doc": forMembers,
	"GET /:db/:doc/*": forMembers, "HEAD /:db/:doc/*": forMembers, "PUT /:db/:doc/*": forMembers, "DELETE /:db/:doc/*": forMembers,
}

// A person makes requests. rank is the most that is theirs in the database "db".
type person struct {
	name, roles string
	rank        right
}

var people = []person{
	{"", "", forAll},
	{"bob", "", forAll},
	{"alice", "", forMembers}, // by name
	{"mia", "crew", forMembers},
	{"dora", "", forDBAdmins}, // by name
	{"dan", "chief", forDBAdmins},
	{"ann", "", forAdmins},
}

// as is the header by which somebody logs in.
func as(name string) string {
	if name == "" {
		return "X-Nobody: 1"
	}
	password := "pw-" + name
	if name == admin.Name {
		password = admin.Password
	}
	return "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(name+":"+password))
}

// startWithUsers is a hub with all people, and databases for members and for everybody.
func startWithUsers(t *testing.T, c Config) *server {
	t.Helper()
	c.Admin = admin
	s := start(t, c)
	for _, p := range people[1 : len(people)-1] {
		roles := ""
		if p.roles != "" {
			roles = `"` + p.roles + `"`
		}
		a := s.do("PUT", "/_users/org.couchdb.user:"+p.name, `{"name":"`+p.name+`","type":"user","roles":[`+roles+`],"password":"pw-`+p.name+`"}`, asJSON, as("ann"))
		if a.StatusCode != 201 {
			t.Fatalf("%s: %d %s", p.name, a.StatusCode, a.body)
		}
	}
	for db, security := range map[string]string{
		"db":     `{"admins":{"names":["dora"],"roles":["chief"]},"members":{"names":["alice"],"roles":["crew"]}}`,
		"public": `{"admins":{"names":["dora"],"roles":["chief"]},"members":{"names":[],"roles":[]}}`,
	} {
		for _, r := range [][3]string{{"PUT", "/" + db, ""}, {"PUT", "/" + db + "/_security", security}, {"PUT", "/" + db + "/doc", "{}"}} {
			if a := s.do(r[0], r[1], r[2], asJSON, as("ann")); a.StatusCode >= 300 {
				t.Fatalf("%q: %d %s", r, a.StatusCode, a.body)
			}
		}
	}
	return s
}

// served lists every endpoint of the hub.
func served(h *Hub) []string {
	var all []string
	for _, e := range h.api.Endpoints() {
		all = append(all, e.Method+" "+e.Path)
	}
	for path, e := range h.endpoints() {
		for _, m := range e.methods {
			all = append(all, m+" "+path)
		}
	}
	for _, m := range pageMethods {
		all = append(all, m+" "+pagePath+"/")
	}
	slices.Sort(all)
	return all
}

var segments = strings.NewReplacer(":doc", "doc", ":ddoc", "dd", ":local", "l", ":index", "dd", "*", "att")

// send makes a request that would do something if it were allowed.
func (s *server) send(endpoint, db string, p person) *answer {
	method, path, _ := strings.Cut(endpoint, " ")
	body := ""
	switch {
	case method == "PUT" && strings.HasSuffix(path, "_security"):
		body = `{"admins":{"names":["dora"],"roles":["chief"]},"members":{"names":["alice"],"roles":["crew"]}}`
		if db == "public" {
			body = strings.ReplaceAll(body, `"names":["alice"],"roles":["crew"]`, ``)
		}
	case strings.HasSuffix(path, "_bulk_docs"), strings.HasSuffix(path, "_bulk_get"):
		body = `{"docs":[]}`
	case strings.HasSuffix(path, "_find"), strings.HasSuffix(path, "_explain"):
		body = `{"selector":{}}`
	case method == "POST", method == "PUT" && path != "/:db":
		body = `{}`
	}
	path = segments.Replace(strings.Replace(path, ":db", strings.ReplaceAll(db, "/", "%2F"), 1))
	return s.do(method, path, body, asJSON, as(p.name), "Destination: copy")
}

// TestAuthorizationMatrix asks everything as everybody.
func TestAuthorizationMatrix(t *testing.T) {
	s := startWithUsers(t, Config{})
	all := served(s.hub)
	if stale := slices.DeleteFunc(slices.Sorted(maps.Keys(access)), func(e string) bool { return slices.Contains(all, e) }); len(stale) > 0 {
		t.Errorf("rules for what is not served: %q", stale)
	}
	for _, e := range all {
		if access[e] == 0 {
			t.Errorf("%s: nobody has said who may use it (see access in this file)", e)
		}
	}
	for _, db := range []string{"db", "public", "missing"} {
		for _, p := range people {
			for _, e := range all {
				if e == "POST /_session" || access[e] == 0 {
					continue
				}
				if (strings.HasSuffix(e, "/_ice") || e == "POST /hub/_relay") && p.name == "" {
					if a := s.send(e, db, p); a.StatusCode != 401 {
						t.Errorf("%s by nobody: %d", e, a.StatusCode)
					}
					continue
				}
				rank := p.rank
				if db == "public" {
					rank = max(rank, forMembers)
				}
				if db == "missing" && access[e] != forAdmins { // is not found by anybody
					rank = forAdmins
				}
				checkAccess(t, e+" of "+db, p, s.send(e, db, p), access[e], rank)
			}
		}
	}
}

func checkAccess(t *testing.T, what string, p person, a *answer, needs, rank right) {
	t.Helper()
	refused := a.StatusCode == 401 || a.StatusCode == 403
	if refused != (needs > rank) || a.StatusCode >= 500 {
		t.Errorf("%s as %q: %d %s", what, p.name, a.StatusCode, a.body)
	}
	if !refused || a.Request.Method == "HEAD" {
		return
	}
	want := ""
	switch {
	case needs == forAdmins:
		want = `{"error":"unauthorized","reason":"You are not a server admin."}`
	case rank == forAll && p.name == "":
		want = `{"error":"unauthorized","reason":"You are not authorized to access this db."}`
	case rank == forAll:
		want = `{"error":"forbidden","reason":"You are not allowed to access this db."}`
	case strings.Contains(what, "_compact"), strings.Contains(what, "_view_cleanup"):
		want = `{"error":"unauthorized","reason":"You are not a server or db admin."}`
	case p.name == "":
		want = `{"error":"unauthorized","reason":"You are not a db or server admin."}`
	default:
		want = `{"error":"forbidden","reason":"You are not a db or server admin."}`
	}
	if strings.TrimSpace(string(a.body)) != want {
		t.Errorf("%s as %q: %s", what, p.name, a.body)
	}
}

// TestEveryOperationHasARule: an operation that is added is refused until a rule is written.
func TestEveryOperationHasARule(t *testing.T) {
	s := start(t, Config{})
	for _, e := range s.hub.api.Endpoints() {
		if rights[e.Op] == 0 {
			t.Errorf("%s %s: operation %d has no rule", e.Method, e.Path, e.Op)
		}
	}
}

// TestHubDatabaseAccess: the hub database is for who has signed in, and its _security is obeyed.
func TestHubDatabaseAccess(t *testing.T) {
	s := startWithUsers(t, Config{})
	for _, e := range served(s.hub) {
		if !strings.Contains(e, ":db") {
			continue
		}
		for _, p := range people[:len(people)-1] {
			a := s.send(e, "hub", p)
			if p.name == "" && a.StatusCode != 401 || access[e] > forMembers && a.StatusCode != 401 && a.StatusCode != 403 {
				t.Errorf("%s of hub as %q: %d %s", e, p.name, a.StatusCode, a.body)
			}
		}
	}
	if a := s.do("GET", "/hub/_all_docs", "", as("bob")); a.StatusCode != 200 {
		t.Errorf("a user: %d %s", a.StatusCode, a.body)
	}
	s.do("PUT", "/hub/_security", `{"members":{"names":["alice"]}}`, asJSON, as("ann"))
	for name, status := range map[string]int{"alice": 200, "bob": 403, "": 401} {
		if a := s.do("GET", "/hub/_all_docs", "", as(name)); a.StatusCode != status {
			t.Errorf("%q: %d %s", name, a.StatusCode, a.body)
		}
	}
}

func ExampleHashPassword() {
	kept, err := HashPassword("-pbkdf2-d35e9c1d9f1c7f3a4e1d5f4c5b6a79881f2e3d4c,salt,10")
	fmt.Println(kept, err)
	// Output: -pbkdf2-d35e9c1d9f1c7f3a4e1d5f4c5b6a79881f2e3d4c,salt,10 <nil>
}

// TestOtherMethods: what a path does not serve is refused to everybody alike, and does nothing.
func TestOtherMethods(t *testing.T) {
	s := startWithUsers(t, Config{})
	methods := map[string][]string{} // by path
	for _, e := range served(s.hub) {
		method, path, _ := strings.Cut(e, " ")
		methods[path] = append(methods[path], method)
	}
	for path, has := range methods {
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "DELETE", "COPY", "PATCH", "OPTIONS", "TRACE", "PROPFIND", "MOVE", "WEIRD"} {
			if slices.Contains(has, method) {
				continue
			}
			for _, p := range people {
				a := s.send(method+" "+path, "db", p)
				allow := strings.Split(a.Header.Get("Allow"), ",")
				if a.StatusCode != 405 || len(allow) == 0 || slices.Contains(allow, method) {
					t.Errorf("%s %s as %q: %d %s, Allow %q", method, path, p.name, a.StatusCode, a.body, allow)
				}
				for _, m := range allow {
					if !slices.Contains(has, m) && method != "MOVE" && method != "WEIRD" { // those are no methods of HTTP to the router
						t.Errorf("%s is said to take %s", path, m)
					}
				}
			}
		}
	}
	if a := s.do("GET", "/db/doc", "", as("ann")); a.StatusCode != 200 {
		t.Errorf("afterwards: %d %s", a.StatusCode, a.body)
	}
}

// TestRequireUser: nobody who has not logged in gets more than the door and the page.
func TestRequireUser(t *testing.T) {
	s := startWithUsers(t, Config{RequireUser: true})
	for _, e := range served(s.hub) {
		if e == "POST /_session" { // a log-in, which has nothing in its body here
			continue
		}
		_, path, _ := strings.Cut(e, " ")
		for _, db := range []string{"public", "hub", "missing"} {
			a := s.send(e, db, people[0])
			if door := slices.Contains([]string{"/", "/_up", "/_session", "/_utils/"}, path); (a.StatusCode == 401) == door || a.StatusCode >= 500 {
				t.Errorf("%s of %s by nobody: %d %s", e, db, a.StatusCode, a.body)
			}
		}
	}
	if a := s.do("GET", "/public/doc", "", as("bob")); a.StatusCode != 200 {
		t.Errorf("a user: %d %s", a.StatusCode, a.body)
	}
}
