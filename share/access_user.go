package share

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/hubdoc"
)

// userPrefix begins the entries of [ShareOptions].Allow that are users of the hub.
const userPrefix = "user:"

// userTime bounds asking the hub.
const userTime = 5 * time.Second

// userOf returns the hub's user whom a peer belongs to, "" if the hub does not tell.
//
// It is believed only if the hub keeps a hub database's rules, by which nobody else
// could have written it: comparing revisions is refused there, and nowhere else.
func (p *Peer) userOf(ctx context.Context, peer string) string {
	ctx, cancel := context.WithTimeout(ctx, userTime)
	defer cancel()
	d, err := p.hub.GetLocal(ctx, hubdoc.UserLocal+peer)
	if err != nil {
		return ""
	}
	_, err = p.hub.RevsDiff(ctx, []couch.DocRevs{{ID: shareDocPrefix + "x", Revs: []couch.Rev{{Gen: 1, Hash: "x"}}}})
	if !errors.Is(err, couch.ErrForbidden) {
		return ""
	}
	var v struct {
		User string `json:"user"`
	}
	_ = json.Unmarshal(d.Body, &v) // what is none is nobody
	return v.User
}

// allowedUser checks the form of an entry of Allow that is a user.
func allowedUser(entry string) bool {
	name, ok := strings.CutPrefix(entry, userPrefix)
	return ok && name != ""
}
