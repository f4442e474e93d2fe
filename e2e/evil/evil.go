// Package evil attacks Loveseat as a hostile peer, sharer, opener or stranger would: with keys and
// accounts that are real and a wire that does what ours never would.
//
// Each [Attack] is one function with a verdict. It is made in a world of real programs, a [Target]:
// a test makes each once, a soak makes them at random next to honest users.
package evil

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"time"
)

// An Attack is one thing that a hostile program tries.
type Attack struct {
	Item int    // of the review; 0: what belongs to none
	Name string // in words: what must not get through
	// Run makes the attack. nil: defended; [ErrNotMade] in the error: it could not be made, which shows
	// nothing; another error: what got through.
	Run func(ctx context.Context, t *Target) error
	// Stranger says that it needs no share: it is made at the hub.
	Stranger bool
	// Once says that a soak does not make it: it needs nothing but a look, or breaks what the soak is about.
	Once bool
}

// ErrNotMade is the error of an attack that could not be made, so that it says nothing of the defence.
var ErrNotMade = errors.New("the attack could not be made")

func notMade(what string, err error) error { return fmt.Errorf("%w: %s: %w", ErrNotMade, what, err) }

// All are the attacks, in the order of the review's items.
func All() []Attack {
	var all []Attack
	for _, some := range [][]Attack{
		general, opened, queries, filteredShare, floodedShare, digests, claims, proofs, stolen, chains, locals, relays, halfOpen,
		idleWebSockets, tombstones, oracles, slowHashes, bodies, packed, manyShares, manyLocals, databases, terminal, locks, turns, passwords,
	} {
		all = append(all, some...)
	}
	return all
}

// OfShares are the attacks that need nothing but a share, the target's Garden, whoever serves it; filtered: its filter too.
func OfShares(filtered bool) []Attack {
	var of []Attack
	if filtered {
		of = append(of, filteredShare[0], oracles[0])
	}
	return append(of,
		Attack{Item: 2, Name: "patterns that are slow, at a share", Run: shareQuery(slowPatterns)},
		Attack{Item: 2, Name: "patterns that backtrack, at a share", Run: shareQuery(backtracking)},
		Attack{Item: 2, Name: "long lists and wide selectors, at a share", Run: shareQuery(append(longLists, wideSelectors...))},
		floodedShare[0], floodedShare[1], floodedShare[3],
	)
}

// A Login is an account at the hub.
type Login struct{ Name, Password string }

// A Share is an honest one that is attacked, in the hub database "hub" if no other is named.
type Share struct {
	ID, DB, Peer string
	PID          int    // of `loveseat share`
	Dir          string // of its local store
}

// A Target is the honest world that is attacked. URLs are of servers; what the hostile side receives
// from them and from shares passes by Loot.
type Target struct {
	Hub       string // as the hostile side reaches it
	Direct    string // as honest users do
	HubPID    int
	HubData   string // its directory
	Memory    int64  // its --limit-memory
	Guarded   string // another hub, with --require-user
	Crowded   string // one with --sign-up, --user-databases and --limit-databases
	Databases int    // its limit
	HubBinary string

	Admin, Ann, Mallory Login // Mallory has an ordinary account
	Chief               Login // an administrator of Guarded who has not logged in yet

	Garden    Share  // filtered by {"public":true}; has HiddenID, of the same length as AbsentID, which it does not have
	Library   Share  // read-only
	Mirror    Share  // of a database that is a URL, which has _local/secret
	Closed    Share  // in the hub database "closed", whose open right is not Mallory's
	WebSocket string // the URL of a share that is served by WebSocket
	HiddenID  string
	AbsentID  string
	LeftID    string // of a document that has left Garden's filter, LeftRev being the revision that was in it
	LeftRev   string

	Loot *Loot
	Dir  string // for what the hostile side keeps
	// AnyNetwork says that peers are reached by other addresses than those of loopback, as browsers are.
	AnyNetwork bool
	// Alone says that nothing else happens to the target, so that what an attack costs can be measured.
	Alone bool
	// Loveseat is the command line as Ann runs it, with LOVESEAT_HUB set.
	Loveseat func(ctx context.Context, args ...string) *exec.Cmd
}

// Prompt is how soon an honest user is served while an attack runs.
const Prompt = 2 * time.Second
