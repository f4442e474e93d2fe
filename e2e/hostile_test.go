package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/loveseat-db/loveseat/e2e/evil"
)

// items are what a review found, by its numbers.
var items = map[int]string{
	0: "what belongs to no item", 1: "an opened share as a web server of a stranger's", 2: "one request that stops a hub or a sharer", 3: "what a filtered share hides",
	4: "floods over streams", 5: "attachments of one MD5", 6: "peer ids taken over", 7: "proofs at other hubs", 8: "revocation and succession", 9: "the owner's _local documents",
	10: "the open right and the relay", 11: "known vulnerabilities", 12: "one peer that makes a sharer unreachable", 13: "idle WebSockets", 14: "tombstones of shares that are not listed",
	15: "existence oracles", 16: "slow passwords", 17: "bodies that are held", 18: "packed bodies", 19: "shares without end", 20: "_local documents without end",
	21: "databases of users, and DNS rebinding", 22: "terminals, the relay's path and lock-outs", 23: "passwords that are printed",
}

// TestHostile: each attack of package evil is made once on real programs, alone, and is defended.
func TestHostile(t *testing.T) {
	h := newHostileWorld(t, 10*time.Minute)
	h.target.Alone = true
	attacks := evil.All()
	slices.SortStableFunc(attacks, func(a, b evil.Attack) int { return a.Item - b.Item })
	for item := range len(items) {
		t.Run(fmt.Sprintf("%d %s", item, items[item]), func(t *testing.T) {
			for _, a := range attacks {
				if a.Item == item {
					t.Run(a.Name, func(t *testing.T) { h.attack(t, a) })
				}
			}
		})
	}
	h.checkHonest()
}

func (h *hostileWorld) attack(t *testing.T, a evil.Attack) {
	ctx, cancel := context.WithTimeout(h.ctx, time.Minute)
	defer cancel()
	began := time.Now()
	err := a.Run(ctx, h.target)
	switch {
	case errors.Is(err, evil.ErrNotMade):
		t.Errorf("this shows nothing: %v", err)
	case err != nil:
		t.Errorf("what got through, within %v: %v", time.Since(began).Round(time.Millisecond), err)
	}
}
