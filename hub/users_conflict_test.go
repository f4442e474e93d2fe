package hub

import (
	"strings"
	"testing"
)

// What a user writes beside the account's document, as another revision of it, does not outlast
// what an administrator takes away: neither roles nor the account itself.
func TestNoRevisionOutlastsAnAccount(t *testing.T) {
	for _, bulk := range []bool{false, true} {
		s := startWithUsers(t, Config{})
		const id, path = "org.couchdb.user:bob", "/_users/org.couchdb.user:bob"
		rev := s.revOf("bob")
		rev = s.do("PUT", path+"?rev="+rev, `{"name":"bob","type":"user","roles":["guest"],"password":"pw-bob"}`, asJSON, as("ann")).rev(t)
		hidden := `{"_id":"` + id + `","_rev":"1-0","name":"bob","type":"user","roles":["guest"],` + hashes["sha256"] + `}`
		a := s.do("PUT", path+"?new_edits=false", hidden, asJSON, as("bob"))
		if bulk {
			a = s.do("POST", "/_users/_bulk_docs", `{"new_edits":false,"docs":[`+hidden+`]}`, asJSON, as("bob"))
		}
		if !strings.Contains(string(a.body), "forbidden") {
			t.Errorf("another revision is taken: %d %s", a.StatusCode, a.body)
		}
		rev = s.do("PUT", path+"?rev="+rev, `{"name":"bob","type":"user","roles":[],"password":"pw-bob"}`, asJSON, as("ann")).rev(t)
		s.do("DELETE", path+"?rev="+rev, "", as("ann"))
		if a := s.do("GET", "/_session", "", "Authorization: "+basicOf("bob", "secret")); a.StatusCode != 401 {
			t.Errorf("a removed account lives on: %s", a.body)
		}
	}
}
