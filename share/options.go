package share

import (
	"context"
	"encoding/json"
	"time"
)

// ShareOptions says how a database is shared. The zero value shares it under
// its own name, to read and write, with every peer of the hub.
type ShareOptions struct {
	// Name is what others see and may open it by: 1 to 256 bytes of printable
	// text. It need not be unique. "": the database's name.
	Name string
	// Info is any JSON value for the others to see, at most 32 KiB. nil: none.
	Info any
	// ReadOnly lets others read and pull only.
	ReadOnly bool

	// Who may open it. With none of the following three all peers of the hub
	// may; otherwise those that one of them lets in, and those admitted for good.

	// Allow lists peer ids, or their first four groups at least, and users of the
	// hub as "user:NAME": then the hub is believed who a peer belongs to. Only
	// hubs of Loveseat tell that, and only to who is signed in there and no administrator.
	Allow []string
	// Approve is asked about the others, and may ask a person: ctx ends when the
	// peer does not wait any more. [Always] is remembered. An error refuses the peer,
	// which gets 403 with its text.
	Approve func(ctx context.Context, peer RemoteInfo) (Approval, error)
	// Invited admits peers with an invite, see [Share.Invite].
	Invited bool

	// OnRemote has the last word about each peer that opens the share and is
	// admitted; an error refuses it: the peer gets 403 with the error's text and
	// is disconnected. It may take its time (Close waits for it). A peer that has
	// closed the share is asked about again when it comes back.
	OnRemote func(RemoteInfo) error
	// Expires ends the share: requests under way are cut off, later ones refused. zero: it does not end.
	Expires time.Time

	// What they may see and do. They see the revisions that match Selector (Mango)
	// and whose ids are among DocIDs, and write no others, whatever way they ask.

	// Selector is a Mango selector as JSON. nil: all.
	Selector json.RawMessage
	// DocIDs are the documents that are shared, 10,000 at most. nil: all.
	DocIDs []string
	// OnWrite decides on each document that a peer writes, replicated ones too; an
	// error refuses it (403) and not the others. It is called concurrently.
	OnWrite func(ctx context.Context, w Write) error
	// Limits bounds what each peer may ask.
	Limits PeerLimits

	// OnEvent is told of what happens to the share, one event at a time. It
	// must not call the share's methods, nor block for long.
	OnEvent func(ShareEvent)
	// Handlers answer the custom requests of openers, by name: see [Share.Handle].
	Handlers map[string]Handler

	pool poolInfo // of a pool's share
}

// EventKind is what happened to a share.
type EventKind string

// The kinds of events, of a share served here ...
const (
	Opened  EventKind = "opened"  // a peer has opened it
	Closed  EventKind = "closed"  // and closed it, or was cut off
	Refused EventKind = "refused" // a peer was not admitted
	Failed  EventKind = "failed"  // renewing it in the hub failed; it is tried again
	Ended   EventKind = "ended"   // it is not shared any more: Err tells why, nil after Unshare
	Revoked EventKind = "revoked" // a peer's access was taken away

	WriteRefused EventKind = "write_refused" // documents of a peer were refused
)

// ShareEvent is something that happened to a share that is served here.
type ShareEvent struct {
	Kind   EventKind
	Remote RemoteInfo     // Opened, Closed, Refused, Revoked, WriteRefused
	Err    error          // Refused, Failed, Ended
	Writes []RefusedWrite // WriteRefused
}
