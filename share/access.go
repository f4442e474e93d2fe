package share

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/fair"
)

// Headers of an opener's requests. The connection is end-to-end encrypted to the sharer.
const (
	inviteHeader = "Loveseat-Invite" // the secret of an invite link
	infoHeader   = "Loveseat-Info"   // JSON in unpadded base64url: [OpenOptions].Info
	maxOpenInfo  = 4 << 10           // bytes of that JSON
)

// An Approval is the answer to a peer that asks to be admitted.
type Approval int

// The answers. The zero value refuses.
const (
	Refuse Approval = iota
	Once            // until it closes the share
	Always          // also after restarts, until [Share.Revoke]
)

// The reasons why a share is not served any more, and errors of its openers.
var (
	// ErrExpired ends a share whose time, [ShareOptions].Expires, has come.
	ErrExpired error = errExpired
	// ErrRevoked ends a share that its owner has ended from another process: see [Peer.Revoke].
	ErrRevoked error = errEnded

	errExpired   = couch.Forbidden("This share has expired.")
	errEnded     = couch.Forbidden("This share was ended by its owner.")
	errRevoked   = couch.Forbidden("Access to this share was revoked.")
	errListed    = couch.Forbidden("This share is for peers that its owner has listed.")
	errInvite    = couch.Forbidden("This share needs an invite.")
	errBadInvite = couch.Forbidden("This invite is not valid, or not any more.")
	errAsked     = &couch.Error{Status: http.StatusTooManyRequests, Code: "too_many_requests", Reason: "The owner of this share is being asked about too many peers."}
	errNotNow    = couch.Forbidden("The owner of this share has refused.")
	errInfo      = couch.BadRequest("The header " + infoHeader + " is not JSON in base64url of at most 4 KiB.")
)

// An admission decides whom a share lets in. Its lists are kept in the shared
// database, in the document "_local/loveseat-access-<share id>", so that they outlive the process.
type admission struct {
	allow   []string // peer ids, or beginnings of them
	users   []string // of the hub
	approve func(context.Context, RemoteInfo) (Approval, error)
	invites bool // are needed
	state   *accessState

	claim func(peer string) fair.Claim
	asks  fair.Places // questions to the owner that wait for an answer

	mu      sync.Mutex
	guesses map[string]tally // wrong invites, by peer
	said    map[string]tally // refusals of approve, by peer
}

// A tally counts events of a peer since a time.
type tally struct {
	n     int
	since time.Time
}

const (
	guessWindow = time.Minute
	maxGuesses  = 10 // wrong invites of a peer in a window
	maxTallies  = 10_000
	askAgain    = 10 * time.Second // after a refusal of approve
	maxAsks     = 32               // questions that wait for the owner
	asksEach    = 4                // about one peer's processes, or one user's
)

// minPeerGroups is how many groups of four letters of a peer id tell who it is:
// 80 bits. With fewer of them somebody could make a key with the same ones.
const minPeerGroups = 4

const peerIDLen = 39 // eight groups of four with hyphens between

func newAdmission(o *ShareOptions, state *accessState) (*admission, error) {
	a := &admission{approve: o.Approve, invites: o.Invited, state: state}
	a.asks.Max, a.asks.Each, a.asks.Settle = maxAsks, asksEach, askAgain
	for _, id := range o.Allow {
		if allowedUser(id) {
			a.users = append(a.users, strings.TrimPrefix(id, userPrefix))
			continue
		}
		id = strings.ToLower(strings.TrimSpace(id))
		if !peerPrefix(id) {
			return nil, couch.BadRequest("Allow: " + id + " is no peer id, nor its first four groups (xxxx-xxxx-xxxx-xxxx), nor user:NAME.")
		}
		a.allow = append(a.allow, id)
	}
	return a, nil
}

// peerPrefix checks the form of a peer id or of its first groups.
func peerPrefix(id string) bool {
	groups := strings.Split(id, "-")
	for _, g := range groups {
		if len(g) != 4 || strings.Trim(g, "abcdefghijklmnopqrstuvwxyz234567") != "" {
			return false
		}
	}
	return len(groups) >= minPeerGroups && len(groups) <= 8
}

// published is what the share document says: nothing of what all readers assume.
func (a *admission) published() Admission {
	if k := a.kind(); k != OpenAdmission {
		return k
	}
	return ""
}

// kind is how the share admits peers.
func (a *admission) kind() Admission {
	switch {
	case a.approve != nil:
		return ByApproval
	case a.invites:
		return ByInvite
	case len(a.allow) > 0 || len(a.users) > 0:
		return Listed
	}
	return OpenAdmission
}

// decide lets a peer in or tells why not; a wait of approve ends with ctx. secret
// is the invite that it shows. The id of the invite that lets it in is noted in i.
func (a *admission) decide(ctx context.Context, i *RemoteInfo, secret string) error {
	if why := a.state.meets(i.Peer, i.links); why != nil {
		if err := a.state.remember(ctx, i.links); err != nil && !errors.Is(err, errChain) {
			return err
		}
		return why
	}
	if err := a.grant(ctx, i, secret); err != nil {
		return err
	}
	// What cannot be remembered could not be revoked.
	return a.state.remember(ctx, linksOf(i.Peer, i.Predecessors))
}

// grant is decide for a peer that is not revoked.
func (a *admission) grant(ctx context.Context, i *RemoteInfo, secret string) error {
	var bad error
	if secret != "" {
		if bad = a.redeem(ctx, i, secret); bad == nil {
			return nil
		}
	}
	switch {
	case a.kind() == OpenAdmission || a.listedAs(i.ids()), i.User != "" && slices.Contains(a.users, i.User):
		return nil
	case a.approve != nil:
		return a.ask(ctx, *i)
	case bad != nil:
		return bad
	case a.invites:
		return errInvite
	}
	return errListed
}

// listed reports whether a peer is named, or was admitted for good.
func (a *admission) listed(peer string) bool {
	return slices.ContainsFunc(a.allow, func(entry string) bool { return matchesPeer(entry, peer) }) || a.state.always(peer)
}

// listedAs reports whether one of a peer's ids is listed, the present one first, and none of
// those before it was taken off the list.
func (a *admission) listedAs(ids []string) bool {
	for i := len(ids) - 1; i >= 0; i-- {
		if a.listed(ids[i]) {
			return true
		}
		if a.state.dropped(ids[i]) {
			return false
		}
	}
	return false
}

// matchesPeer reports whether an entry of an allowlist, a peer id or its first groups, means a peer.
func matchesPeer(entry, peer string) bool {
	return peer == entry || strings.HasPrefix(peer, entry+"-")
}

// names reports whether the owner has named a peer, or the user that it belongs to, or let it in for good.
func (a *admission) names(peer, group string) bool {
	user, isUser := strings.CutPrefix(group, userPrefix)
	return isUser && slices.Contains(a.users, user) || slices.ContainsFunc(a.state.chain(peer), a.listed)
}

func (a *admission) redeem(ctx context.Context, i *RemoteInfo, secret string) error {
	if n := a.count(&a.guesses, i.Peer, guessWindow, 0); n >= maxGuesses {
		return &couch.RetryLater{Err: &couch.Error{Status: http.StatusTooManyRequests, Code: "too_many_requests", Reason: "Too many invites were tried."}, After: guessWindow}
	}
	id, err := a.state.redeem(ctx, secret, i.ids())
	if errors.Is(err, couch.ErrForbidden) {
		a.count(&a.guesses, i.Peer, guessWindow, 1)
	}
	i.Invite = id
	return err
}

// count adds to a peer's tally, which starts over after a window, and returns it.
func (a *admission) count(m *map[string]tally, peer string, window time.Duration, add int) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	t := (*m)[peer]
	if now := time.Now(); now.Sub(t.since) > window {
		t = tally{since: now}
	}
	if t.n += add; add > 0 {
		if *m == nil || len(*m) >= maxTallies {
			*m = map[string]tally{}
		}
		(*m)[peer] = t
	}
	return t.n
}

// ask asks the owner. Who was refused is not asked about again for a while.
func (a *admission) ask(ctx context.Context, i RemoteInfo) error {
	if a.count(&a.said, i.Peer, askAgain, 0) > 0 {
		return &couch.RetryLater{Err: errNotNow, After: askAgain}
	}
	place, ctx := a.question(ctx, i.Peer)
	if place == nil {
		return errAsked
	}
	defer place.Leave()
	answer, err := a.approve(ctx, i)
	if cause := context.Cause(ctx); errors.Is(cause, errAsked) {
		return errAsked
	}
	if err == nil && answer == Always {
		err = a.state.admit(ctx, i.Peer)
	}
	if err == nil && answer != Once && answer != Always {
		err = errNotNow
	}
	if err != nil && ctx.Err() == nil {
		a.count(&a.said, i.Peer, askAgain, 1)
	}
	return err
}

// question takes a place for a question to the owner; nil: there is none. The context that comes with
// it ends when others need the place.
func (a *admission) question(ctx context.Context, peer string) (*fair.Place, context.Context) {
	ctx, cancel := context.WithCancelCause(ctx)
	return a.asks.Take(func() fair.Claim {
		if a.claim == nil {
			return fair.Claim{Group: peer}
		}
		return a.claim(peer)
	}, func() { cancel(errAsked) }), ctx
}

// openInfo reads the header Loveseat-Info.
func openInfo(h http.Header) (json.RawMessage, error) {
	text := h.Get(infoHeader)
	if text == "" {
		return nil, nil
	}
	if len(text) > base64.RawURLEncoding.EncodedLen(maxOpenInfo) {
		return nil, errInfo
	}
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || !json.Valid(b) {
		return nil, errInfo
	}
	return b, nil
}
