package share

import (
	"context"
	"slices"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// The keys of a peer that changes them are a chain: each but the first was named its successor by
// another one, which signed that ([hubdoc.Succession]), and carries the signature. A thief of a key can
// name successors too, several of one key, so a chain may fork. This is how a share treats it, the plugin's alike:
//
//  1. Two keys are linked when the newer one shows a succession that verifies, with a request or in its share
//     document in the hub. Whoever is linked, directly or through others, is one peer. Links of peers
//     that were let in, or that lead to a revoked key, are kept with the access lists and outlive the process.
//  2. A key is refused if any key that is linked to it, older, newer or beside it, is revoked. A peer that shows a link to a
//     revoked key is refused, its link is kept, and so it is refused too when it shows nothing the next time.
//  3. Revoking a key, by whichever process, takes what was granted for good from all keys linked to it, and ends the live
//     sessions of all. A link that is learnt later does the same. Admitting one of them takes it back for all.
//  4. The allowlist, what was granted for good and one-time invites hold for the key they name and for those that succeed
//     it, never for older ones. A key that is taken off the allowlist is no bridge any more: neither it nor
//     what succeeds it is let in for an older key that is still listed.
//  5. A chain has at most 64 keys; a peer that shows more links is refused.

// A keyLink says that a peer has changed its key.
type keyLink struct {
	From string `json:"from"` // the older peer id
	To   string `json:"to"`
}

const (
	maxChain = 64     // keys that are linked
	maxLoose = 1000   // links between keys of which the lists say nothing else: the oldest go
	maxLinks = 10_000 // in all
)

var errChain = couch.Forbidden("This peer has changed its keys too often.")

// linksOf makes links of a peer's verified predecessors, the oldest first.
func linksOf(peer string, predecessors []string) []keyLink {
	var links []keyLink
	for i, from := range predecessors {
		to := peer
		if i+1 < len(predecessors) {
			to = predecessors[i+1]
		}
		links = append(links, keyLink{from, to})
	}
	return links
}

// kinship is which keys are linked directly.
type kinship map[string][]string

func newKinship(lists ...[]keyLink) kinship {
	k := kinship{}
	for _, links := range lists {
		for _, l := range links {
			k[l.From] = append(k[l.From], l.To)
			k[l.To] = append(k[l.To], l.From)
		}
	}
	return k
}

// of returns all keys that are linked to one, and itself.
func (k kinship) of(peer string) []string {
	all := []string{peer}
	if len(k[peer]) == 0 {
		return all
	}
	seen := map[string]bool{peer: true}
	for i := 0; i < len(all); i++ {
		for _, next := range k[all[i]] {
			if !seen[next] {
				seen[next] = true
				all = append(all, next)
			}
		}
	}
	return all
}

// chain returns all keys that are known to be the peer's.
func (a *accessState) chain(peer string) []string { return a.now.Load().kin.of(peer) }

// meets reports whether links lead a peer to a revoked key.
func (a *accessState) meets(peer string, links []keyLink) error {
	now := a.now.Load()
	return now.revoked(newKinship(now.Links, links).of(peer))
}

// remember keeps links. Errors: forbidden (403) if the chain is too long.
func (a *accessState) remember(ctx context.Context, links []keyLink) error {
	now := a.now.Load()
	if !slices.ContainsFunc(links, func(l keyLink) bool { return !slices.Contains(now.Links, l) }) {
		return nil
	}
	return a.change(ctx, func(l *accessLists) error { return l.link(links) })
}

// link adds links to the lists.
func (l *accessLists) link(links []keyLink) error {
	for _, link := range links {
		if slices.Contains(l.Links, link) || link.From == link.To {
			continue
		}
		if chain := newKinship(l.Links, []keyLink{link}).of(link.To); len(chain) > maxChain {
			return errChain
		}
		l.Links = append(l.Links, link)
	}
	l.forgetLoose()
	if len(l.Links) > maxLinks {
		return errChain
	}
	return nil
}

// forgetLoose drops the oldest links that matter to nobody, if there are too many.
func (l *accessLists) forgetLoose() {
	if len(l.Links) <= maxLoose {
		return
	}
	kin, matters := newKinship(l.Links), map[string]bool{}
	mark := func(peer string) {
		for _, k := range kin.of(peer) {
			matters[k] = true
		}
	}
	for peer := range l.Always {
		mark(peer)
	}
	for peer := range l.Revoked {
		mark(peer)
	}
	for _, i := range l.Invites {
		mark(i.Peer)
	}
	for peer := range kin {
		if slices.ContainsFunc(l.Allow, func(entry string) bool { return matchesPeer(entry, peer) }) {
			mark(peer)
		}
	}
	loose := 0
	for _, link := range l.Links {
		if !matters[link.To] {
			loose++
		}
	}
	l.Links = slices.DeleteFunc(l.Links, func(link keyLink) bool {
		drop := loose > maxLoose && !matters[link.To]
		if drop {
			loose--
		}
		return drop
	})
}

// start notes whom the owner lists now, and who is not listed any more.
func (a *accessState) start(ctx context.Context, allow []string) error {
	if slices.Equal(a.now.Load().Allow, allow) {
		return nil
	}
	return a.change(ctx, func(l *accessLists) error {
		for _, entry := range l.Allow {
			if !slices.Contains(allow, entry) {
				l.Dropped[entry] = time.Now().UTC()
			}
		}
		for _, entry := range allow {
			delete(l.Dropped, entry)
		}
		l.Allow = slices.Clone(allow)
		return nil
	})
}

// dropped reports whether a peer was taken off the allowlist.
func (a *accessState) dropped(peer string) bool {
	for entry := range a.now.Load().Dropped {
		if matchesPeer(entry, peer) {
			return true
		}
	}
	return false
}

// links returns the successions in the hub's share documents that have to do with peers.
func (d *directory) links(peers ...string) []keyLink {
	d.mu.Lock()
	defer d.mu.Unlock()
	var links []keyLink
	for _, s := range d.shares {
		if len(s.predecessors) == 0 {
			continue
		}
		if ids := append([]string{s.Peer}, s.predecessors...); slices.ContainsFunc(peers, func(p string) bool { return slices.Contains(ids, p) }) {
			links = append(links, linksOf(s.Peer, s.predecessors)...)
		}
	}
	return links
}
