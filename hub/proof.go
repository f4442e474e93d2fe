package hub

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/hubdoc"
)

// ProofHeader is the request header by which a peer shows that it has its device
// key: see [hubdoc.Proof]. Writing shares and signals needs it; reading, only without a log-in.
const ProofHeader = hubdoc.ProofHeader

// A shown is what a request's proof shows, or why it shows nothing.
type shown struct {
	peer    string
	purpose hubdoc.Purpose
	err     *couch.Error
}

// shownKey is the context key of the request's shown.
type shownKey struct{}

// proven finds out which peer a request to a hub database comes from, if it proves
// that. A proof that does not hold is refused where it is needed: signed-in users read without.
func (h *Hub) proven(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		value, database := r.Header.Get(ProofHeader), hubOf(r)
		if value == "" || h.service.hubs[database] == nil || loginOf(r.Context()).admin() {
			next.ServeHTTP(w, r)
			return
		}
		s, err := h.shown(r, database, value)
		if err != nil {
			writeLater(w, err)
			return
		}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), shownKey{}, s)))
	})
}

// hubOf returns the database of a request's path, decoded.
func hubOf(r *http.Request) string {
	first, _, _ := strings.Cut(strings.TrimPrefix(r.URL.EscapedPath(), "/"), "/")
	name, err := url.PathUnescape(first)
	if err != nil {
		return ""
	}
	return name
}

// shown judges a proof.
func (h *Hub) shown(r *http.Request, database, value string) (shown, error) {
	c := callerOf(r.Context())
	p, err := hubdoc.ParseProof(value, database, r.Method)
	switch {
	case errors.Is(err, hubdoc.ErrOldProof): // a wrong clock is no reason to refuse what needs no proof
		return shown{err: couch.Forbidden(ProofHeader + ": " + err.Error())}, nil
	case err != nil:
		return shown{}, couch.BadRequest(ProofHeader + ": " + err.Error())
	case !forPurpose(r, p.Purpose):
		return shown{}, couch.Forbidden(fmt.Sprintf("%s: a proof to %.20q is not for this request", ProofHeader, p.Purpose))
	case !h.ownOrigin(r, p.Origin):
		no := couch.Forbidden(fmt.Sprintf("%s: the peer has dialled %.100q, which is not a name of this hub. If it is, the hub must be started with --host.", ProofHeader, p.Origin))
		if c.nobody {
			return shown{}, no
		}
		return shown{err: no}, nil
	}
	if err := h.nonces.take(p, c.client, time.Now()); err != nil {
		return shown{}, err
	}
	return shown{peer: p.Peer, purpose: p.Purpose}, nil
}

// forPurpose reports whether a request may be what a proof is for.
func forPurpose(r *http.Request, p hubdoc.Purpose) bool {
	path := strings.TrimRight(r.URL.Path, "/")
	last := path[strings.LastIndexByte(path, '/')+1:]
	switch {
	case r.Method == http.MethodGet || r.Method == http.MethodHead:
		return p == hubdoc.ToRead
	case r.Method == http.MethodPost && last == "_relay":
		return p == hubdoc.ToRelay
	case r.Method == http.MethodPost && last != "_bulk_docs" && strings.HasPrefix(last, "_"):
		return p == hubdoc.ToRead // _all_docs, _changes, _bulk_get, _find …
	}
	return p == hubdoc.ToClaim
}

// nonces are those of the proofs that were taken and could come again. They are
// remembered by peer, so that no peer makes room at the expense of another.
type nonces struct {
	mu    sync.Mutex
	peers map[string]*taken
	of    map[string]int // how many of the peers a client has brought
	floor time.Time      // of peers that are not known: some were forgotten then
	swept time.Time
}

// taken are the nonces of a peer.
type taken struct {
	client string               // that brought the first one
	at     map[string]time.Time // when their proofs were made
	floor  time.Time            // nonces of proofs up to here are forgotten, and refused
}

const (
	maxNonces       = 4096 // of one peer
	maxProvers      = 2000 // peers of one client, at a time
	maxAllProvers   = 200_000
	nonceAge        = hubdoc.ProofAge + 10*time.Second // after its proof was made a nonce is forgotten
	nonceSweepEvery = 10 * time.Second
)

var errUsedProof = couch.Forbidden(ProofHeader + ": the proof has been used, or is older than too many others of its peer")

// take takes a nonce, once.
func (n *nonces) take(p *hubdoc.Proof, client string, now time.Time) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.peers == nil {
		n.peers, n.of = map[string]*taken{}, map[string]int{}
	}
	if now.Sub(n.swept) > nonceSweepEvery {
		n.sweep(now)
	}
	t := n.peers[p.Peer]
	if t == nil {
		if n.of[client] >= maxProvers {
			return tooMany("peers", nonceAge)
		}
		if !p.Time.After(n.floor) {
			return errUsedProof
		}
		if len(n.peers) >= maxAllProvers {
			n.makeRoom(now)
		}
		t = &taken{client: client, at: map[string]time.Time{}, floor: n.floor}
		n.peers[p.Peer] = t
		n.of[client]++
	}
	if _, used := t.at[p.Nonce]; used || !p.Time.After(t.floor) {
		return errUsedProof
	}
	if len(t.at) >= maxNonces {
		t.halve()
	}
	t.at[p.Nonce] = p.Time
	return nil
}

// makeRoom forgets peers of those clients that have brought more than others, so that strangers
// with many addresses lock nobody out. n.mu is held.
func (n *nonces) makeRoom(now time.Time) {
	fair := max(1, maxAllProvers/2/len(n.of))
	for peer, t := range n.peers {
		if n.of[t.client] > fair {
			n.forget(peer, t)
		}
	}
	for peer, t := range n.peers { // as many clients as there may be peers
		if len(n.peers) <= maxAllProvers*3/4 {
			break
		}
		n.forget(peer, t)
	}
	n.floor = now
}

// forget forgets a peer. n.mu is held.
func (n *nonces) forget(peer string, t *taken) {
	delete(n.peers, peer)
	if n.of[t.client]--; n.of[t.client] == 0 {
		delete(n.of, t.client)
	}
}

// halve forgets the nonces of the older half of a peer's proofs.
func (t *taken) halve() {
	times := make([]time.Time, 0, len(t.at))
	for _, at := range t.at {
		times = append(times, at)
	}
	slices.SortFunc(times, time.Time.Compare)
	t.floor = times[len(times)/2]
	t.forget(t.floor)
}

// forget forgets what was made up to a time.
func (t *taken) forget(upTo time.Time) {
	for nonce, at := range t.at {
		if !at.After(upTo) {
			delete(t.at, nonce)
		}
	}
}

// sweep forgets the proofs that are too old to come again. n.mu is held.
func (n *nonces) sweep(now time.Time) {
	n.swept = now
	for peer, t := range n.peers {
		t.forget(now.Add(-nonceAge))
		if len(t.at) > 0 || now.Sub(t.floor) < nonceAge {
			continue
		}
		n.forget(peer, t)
	}
}
