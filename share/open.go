package share

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// ChangeKind is what has become of a share in the hub.
type ChangeKind string

// The kinds of [Event].
const (
	New     ChangeKind = "new"     // it is there; also for each that is there at first
	Changed ChangeKind = "changed" // its name, info, access or content
	Gone    ChangeKind = "gone"    // it was unshared, or its sharer is dead

	// Omitted tells that the hub has more shares than a peer keeps, 10,000 or 32 MiB of documents: the rest
	// is left out, most of all of peers that have most, and can be opened by its id. It names no share.
	Omitted ChangeKind = "omitted"
)

// Event is a change among the hub's live shares.
type Event struct {
	Kind  ChangeKind `json:"kind"`
	Share Info       `json:"share"`
}

// Shares returns the hub's live shares, by name, this peer's own flagged. It
// always asks the hub.
func (p *Peer) Shares(ctx context.Context) ([]Info, error) {
	if err := listShares(ctx, p.hub, p.dir); err != nil {
		return nil, err
	}
	live, _, _ := p.dir.snapshot()
	infos := make([]Info, len(live))
	for i, s := range live {
		infos[i] = p.info(s)
	}
	return infos, nil
}

// Watch calls fn with each live share of the hub, then with each change, until
// ctx ends or fn returns an error; it returns why. Changes that come faster
// than fn returns are told as one. While the hub cannot be reached shares
// expire, and are new again afterwards.
func (p *Peer) Watch(ctx context.Context, fn func(Event) error) error {
	seen := map[string]*shareDoc{}
	omitted := false
	for {
		live, next, changed := p.dir.snapshot()
		if err := p.tell(seen, live, fn); err != nil {
			return err
		}
		if was := omitted; was != (p.dir.left() > 0) {
			if omitted = !was; omitted {
				if err := fn(Event{Kind: Omitted}); err != nil {
					return err
				}
			}
		}
		expiry := time.NewTimer(time.Hour)
		if !next.IsZero() {
			expiry.Reset(max(0, time.Until(next)))
		}
		select {
		case <-changed:
		case <-expiry.C:
		case <-p.ctx.Done():
			expiry.Stop()
			return ErrClosed
		case <-ctx.Done():
			expiry.Stop()
			return ctx.Err()
		}
		expiry.Stop()
	}
}

// tell calls fn with what is different between seen, which it updates, and live.
func (p *Peer) tell(seen map[string]*shareDoc, live []*shareDoc, fn func(Event) error) error {
	alive := make(map[string]bool, len(live))
	for _, s := range live {
		alive[s.id] = true
		old := seen[s.id]
		seen[s.id] = s
		var err error
		switch {
		case old == nil:
			err = fn(Event{New, p.info(s)})
		case !sameShare(old, s):
			err = fn(Event{Changed, p.info(s)})
		}
		if err != nil {
			return err
		}
	}
	for id, s := range seen {
		if alive[id] {
			continue
		}
		delete(seen, id)
		if err := fn(Event{Gone, p.info(s)}); err != nil {
			return err
		}
	}
	return nil
}

// find resolves a reference: a link, a share id, or a name that one live share has.
// Errors: not_found (404), ambiguous_name (409).
func (p *Peer) find(ctx context.Context, ref string) (*shareDoc, error) {
	if l, err := ParseLink(ref); err == nil {
		s, err := p.lookup(ctx, l.Share)
		if errors.Is(err, couch.ErrNotFound) && p.hubURL != "" && p.hubURL != l.Hub {
			return nil, couch.NotFound("No share " + l.Share + " in this hub; the link is one of " + l.Hub + ".")
		}
		return s, err
	}
	if validShareID(ref) {
		if s, err := p.lookup(ctx, ref); !errors.Is(err, couch.ErrNotFound) {
			return s, err
		}
	}
	return p.byName(ctx, ref)
}

// lookup asks the hub for a share by its id.
func (p *Peer) lookup(ctx context.Context, id string) (*shareDoc, error) {
	p.dir.ask(id)
	l := p.dir.beginListing()
	doc, err := p.hub.Get(ctx, shareDocPrefix+id, couch.GetOptions{})
	switch {
	case err == nil:
		l.add(doc)
	case !errors.Is(err, couch.ErrNotFound):
		l.cancel()
		return nil, err
	}
	l.endOne(id)
	if s, _ := p.dir.get(id); s != nil {
		return s, nil
	}
	if s := p.dir.successor(id); s != nil {
		return s, nil
	}
	return nil, couch.NotFound("No live share " + id + ".")
}

// search looks for a share by its name in a hub that has more of them than are kept.
func (p *Peer) search(ctx context.Context, name string) (*shareDoc, error) {
	var ids []string
	err := eachDoc(ctx, p.hub, shareDocPrefix, func(d *couch.Doc) {
		if len(ids) > 1 {
			return
		}
		if s, err := parseShare(d); err == nil && s.Name == name && time.Now().Before(s.gone()) {
			ids = append(ids, s.id)
		}
	})
	switch {
	case err != nil:
		return nil, err
	case len(ids) == 1:
		return p.lookup(ctx, ids[0])
	case len(ids) > 1:
		return nil, &couch.Error{Status: http.StatusConflict, Code: "ambiguous_name", Reason: "Several shares are named " + name + "; open one by its id: " + strings.Join(ids, ", ")}
	}
	return nil, couch.NotFound("No live share is named " + name + ".")
}

// Omitted reports whether the hub has more shares than this peer keeps: see [Omitted].
func (p *Peer) Omitted() bool { return p.dir.left() > 0 }

func (p *Peer) byName(ctx context.Context, name string) (*shareDoc, error) {
	if err := listShares(ctx, p.hub, p.dir); err != nil {
		return nil, err
	}
	live, _, _ := p.dir.snapshot()
	var found []*shareDoc
	var ids []string
	for _, s := range live {
		if s.Name == name {
			found, ids = append(found, s), append(ids, s.id)
		}
	}
	if len(found) == 0 && p.dir.left() > 0 {
		return p.search(ctx, name)
	}
	switch len(found) {
	case 0:
		return nil, couch.NotFound("No live share is named " + name + ".")
	case 1:
		return found[0], nil
	}
	return nil, &couch.Error{Status: http.StatusConflict, Code: "ambiguous_name", Reason: "Several shares are named " + name + "; open one by its id: " + strings.Join(ids, ", ")}
}
