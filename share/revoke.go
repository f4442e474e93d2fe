package share

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// A share is also governed from other processes of its owner's identity, by
// signals to the process that serves it: signed and sealed, so that only who has the
// device key can send and read them. The payload is a revokeOrder; the answer a revokeResult.
const (
	kindRevoke  = "revoke"
	kindRevoked = "revoked"
)

type revokeOrder struct {
	Share  string `json:"share"`
	Peer   string `json:"peer,omitempty"` // "": the share itself ends
	Reason string `json:"reason,omitempty"`
}

type revokeResult struct {
	Status int    `json:"status,omitempty"` // of an error
	Error  string `json:"error,omitempty"`
	Reason string `json:"reason,omitempty"`
}

const (
	revokeTime = 20 * time.Second // for carrying an order out, and answering
	orderTime  = 10 * time.Second // for the answer of the process that serves a share
)

// Revoke takes a peer's access to a share of this identity away, as
// [Share.Revoke] does, or with peer "" ends the share, whichever process serves it. It
// returns when that has happened. ref is as for [Peer.Open]. Errors: not_found (404),
// forbidden (403) for another peer's share, those of [Share.Revoke], and [ErrNotServed] if
// the share is not in the hub or the process that serves it does not answer within ten seconds: see [RevokeStored].
func (p *Peer) Revoke(ctx context.Context, ref, peer, reason string) error {
	doc, err := p.findOwn(ctx, ref)
	if errors.Is(err, couch.ErrNotFound) {
		return fmt.Errorf("%w: %w", ErrNotServed, err)
	}
	if err != nil {
		return err
	}
	order := revokeOrder{doc.id, peer, reason}
	if doc.address() == p.address() {
		return p.obey(ctx, order)
	}
	return p.command(ctx, doc.address(), order)
}

// findOwn finds a share of this identity.
func (p *Peer) findOwn(ctx context.Context, ref string) (*shareDoc, error) {
	doc, err := p.find(ctx, ref)
	if err == nil && doc.Peer != p.ID() {
		err = couch.Forbidden("This share is of peer " + ShortID(doc.Peer) + "; its owner alone may do this.")
	}
	return doc, err
}

// command sends an order to the process that serves a share and awaits its answer.
func (p *Peer) command(ctx context.Context, to string, order revokeOrder) error {
	payload, err := json.Marshal(order)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, orderTime)
	defer cancel()
	session := randomHex(16)
	answer := make(chan []byte, 1)
	defer p.mailbox.overhear(func(s Signal) {
		if s.From == to && s.Session == session && s.Kind == kindRevoked {
			select {
			case answer <- s.Payload:
			default:
			}
		}
	})()
	err = p.mailbox.Send(ctx, Signal{To: to, Session: session, Kind: kindRevoke, Payload: payload})
	if err != nil && ctx.Err() == nil {
		return err
	}
	select {
	case b := <-answer:
		var r revokeResult
		if err := json.Unmarshal(b, &r); err != nil {
			return err
		}
		if r.Error != "" {
			return &couch.Error{Status: r.Status, Code: r.Error, Reason: r.Reason}
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrNotServed, ctx.Err())
	}
}

// obey carries out an order.
func (p *Peer) obey(ctx context.Context, o revokeOrder) error {
	p.server.mu.Lock()
	s := p.server.shares[o.Share]
	p.server.mu.Unlock()
	switch {
	case s == nil:
		return couch.NotFound("This process does not serve the share.")
	case o.Peer == "":
		return s.endNow(ctx)
	}
	peer, err := s.knownPeer(ctx, o.Peer)
	if err != nil {
		return err
	}
	return s.Revoke(ctx, peer, o.Reason)
}

// knownPeer completes the beginning of a peer id, if one peer that the share has
// to do with has it. Errors: not_found (404), ambiguous_name (409).
func (s *Share) knownPeer(ctx context.Context, begin string) (string, error) {
	if len(begin) == peerIDLen {
		return begin, nil
	}
	found := map[string]bool{}
	note := func(peer string) {
		if strings.HasPrefix(peer, begin+"-") {
			found[peer] = true
		}
	}
	s.mu.Lock()
	for _, rm := range s.remotes {
		note(rm.info.Peer)
	}
	s.mu.Unlock()
	s.admission.state.each(note)
	if err := s.ledger.each(ctx, note); err != nil {
		return "", err
	}
	for peer := range found {
		if len(found) == 1 {
			return peer, nil
		}
	}
	if len(found) > 1 {
		return "", &couch.Error{Status: http.StatusConflict, Code: "ambiguous_name", Reason: "Several peers begin with " + begin + "; give the whole id."}
	}
	return "", couch.NotFound("No peer that the share knows begins with " + begin + "; give the whole id.")
}

// endNow ends the share for good, as its owner wants it, and returns when it has.
func (s *Share) endNow(ctx context.Context) error {
	s.end(errEnded)
	select {
	case <-s.done:
	case <-ctx.Done():
		return ctx.Err()
	}
	return s.unpublish(ctx)
}

// receiveOrders obeys the orders of this identity's other processes until the peer is closed.
func (p *Peer) receiveOrders() {
	defer p.mailbox.overhear(func(s Signal) {
		if s.Kind != kindRevoke || peerOf(s.From) != p.ID() {
			return
		}
		p.start(func() {
			ctx, cancel := context.WithTimeout(p.ctx, revokeTime)
			defer cancel()
			if err := p.answerOrder(ctx, s); err != nil {
				p.log.Warn("an order was not answered", "err", err)
			}
		})
	})()
	<-p.ctx.Done()
}

func (p *Peer) answerOrder(ctx context.Context, s Signal) error {
	var o revokeOrder
	err := json.Unmarshal(s.Payload, &o)
	if err != nil {
		err = couch.BadRequest(err.Error())
	} else {
		err = p.obey(ctx, o)
	}
	var r revokeResult
	if err != nil {
		e := couch.AsError(err)
		r = revokeResult{max(e.Status, http.StatusBadRequest), e.Code, e.Reason}
	}
	payload, err := json.Marshal(r)
	if err != nil {
		return err
	}
	// The program may end with its share: Close waits for the answer.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTime)
	defer cancel()
	return p.mailbox.Send(ctx, Signal{To: s.From, Session: s.Session, Kind: kindRevoked, Payload: payload})
}
