package share

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// reaches counts who gets the changes of the first, if all pull from whom they choose.
func reaches(pulls map[string]map[string]bool, from string) int {
	seen := map[string]bool{from: true}
	for todo := []string{from}; len(todo) > 0; todo = todo[1:] {
		for id, sources := range pulls {
			if sources[todo[0]] && !seen[id] {
				seen[id] = true
				todo = append(todo, id)
			}
		}
	}
	return len(seen)
}

// Whoever is in a topic, all the live are reached, neighbours are mutual and no more than allowed.
func TestPoolNeighbours(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 60).Draw(t, "members")
		limit := 2 * rapid.IntRange(1, 4).Draw(t, "half of the limit")
		dead := rapid.IntRange(0, min(n-1, maxPassedOver)).Draw(t, "dead")
		ids := make([]string, n)
		for i := range ids {
			ids[i] = fmt.Sprint(rapid.Uint64().Draw(t, "seed"), i)
		}
		down := func(id string) bool { return slices.Contains(ids[:dead], id) }
		pulls := map[string]map[string]bool{}
		for i, id := range ids[dead:] {
			others := slices.Delete(slices.Clone(ids), dead+i, dead+i+1)
			chosen := neighbours("t", id, others, limit, down)
			if dead == 0 && len(chosen) > limit || len(chosen) == 0 && n > 1 || chosen[id] {
				t.Fatalf("%s chose %v", id, chosen)
			}
			pulls[id] = chosen
		}
		for a, sources := range pulls {
			for b := range sources {
				if !down(b) && !pulls[b][a] {
					t.Fatalf("%s pulls from %s, which does not pull from it", a, b)
				}
			}
		}
		if got := reaches(pulls, ids[n-1]); got != n-dead {
			t.Fatalf("%d of %d reached", got, n-dead)
		}
	})
}

// Who joins changes two links in each ring and no others.
func TestPoolNeighboursStay(t *testing.T) {
	const n, limit = 100, 8
	var ids []string
	for i := range n + 1 {
		ids = append(ids, fmt.Sprint("member", i))
	}
	up := func(string) bool { return false }
	changed := 0
	for i, id := range ids[:n] {
		before := neighbours("t", id, slices.Delete(slices.Clone(ids[:n]), i, i+1), limit, up)
		after := neighbours("t", id, slices.Delete(slices.Clone(ids), i, i+1), limit, up)
		for other := range before {
			if !after[other] {
				changed++
			}
		}
	}
	if changed > limit {
		t.Errorf("%d links changed", changed)
	}
}

// The browser plugin chooses the same neighbours: test/topic.test.mjs expects this, too.
func TestNeighboursVector(t *testing.T) {
	var others []string
	for i := range 39 {
		others = append(others, fmt.Sprint("member", i+1))
	}
	chosen := slices.Sorted(maps.Keys(neighbours("t", "member0", others, 8, func(string) bool { return false })))
	if got := strings.Join(chosen, ","); got != "member13,member15,member16,member17,member26,member3,member6" {
		t.Error(got)
	}
}
