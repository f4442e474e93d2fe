package hub

import (
	"strings"
	"testing"

	"github.com/loveseat-db/loveseat/internal/hubdoc"
)

// A hub tells users who a peer belongs to, nobody else, and nobody can say otherwise.
func TestUserOfPeer(t *testing.T) {
	s := startUsers(t, Config{})
	d := newDevice(t)
	id, body := d.share(t, nil)
	path := "/hub/_local/" + hubdoc.UserLocal + d.id
	s.as("eve", "GET", path, "", 404) // nobody's yet
	s.as("eve", "PUT", path, `{"user":"ann"}`, 403)
	s.as("eve", "GET", path, "", 404)
	s.as("ann", "PUT", "/hub/"+id, body, 201)
	if a := s.as("eve", "GET", path, "", 200); !strings.Contains(string(a.body), `"user":"ann"`) {
		t.Errorf("%s", a.body)
	}
	s.as("ann", "PUT", path, `{"_rev":"0-1","user":"eve"}`, 403)
	s.as("", "GET", path, "", 401)
	// This is how peers know that it keeps such rules.
	s.as("eve", "POST", "/hub/_revs_diff", `{"share:x":["1-x"]}`, 403)
}
