package hub

import (
	"fmt"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/hubdoc"
)

// A side is the part in a connection between two peers.
type side string

// The sides of a connection. What either may send leads nowhere unless its side has begun.
const (
	opens  side = "open"  // begins it, to open a share
	shares side = "share" // answers
	either side = ""
)

// maySide reports whether a caller may take a side of connections in a hub database.
func (d *Database) maySide(c *caller, s side) bool {
	if !c.may(d.Signal) {
		return false
	}
	switch s {
	case opens:
		return c.may(d.Open)
	case shares:
		return c.may(d.Publish)
	}
	return c.may(d.Open) || c.may(d.Publish)
}

// signalKinds are the signals that the hub takes, and whose they are; own: they go from a peer to itself.
var signalKinds = map[string]struct {
	side side
	own  bool
}{
	hubdoc.KindOffer:     {side: opens},
	hubdoc.KindRelay:     {side: opens},
	hubdoc.KindAnswer:    {side: shares},
	hubdoc.KindCandidate: {side: either},
	hubdoc.KindBye:       {side: either},
	hubdoc.KindRestart:   {side: either},
	hubdoc.KindRevoke:    {side: shares, own: true},
	hubdoc.KindRevoked:   {side: shares, own: true},
	hubdoc.KindEcho:      {side: either, own: true},
}

// mayLead reports why the caller may not send a signal: what it leads to takes a right.
func (d *ruledDB) mayLead(s *hubdoc.Signal) error {
	kind, known := signalKinds[s.Kind]
	switch {
	case !known:
		return couch.Forbidden(fmt.Sprintf("This hub takes no signals of the kind %.32q.", s.Kind))
	case kind.own && hubdoc.PeerOf(s.To) != hubdoc.PeerOf(s.From):
		return couch.Forbidden(fmt.Sprintf("A signal of the kind %q goes from a peer to itself.", s.Kind))
	case !d.hub.maySide(&d.who, kind.side):
		return d.who.refusal()
	}
	return nil
}
