package fair

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func of(group string, rank int) func() Claim {
	return func() Claim { return Claim{Group: group, Rank: rank} }
}

// Whoever takes much loses its own oldest; the others keep theirs.
func TestGreedyGivesWay(t *testing.T) {
	var out []string
	p := &Places{Max: 4}
	take := func(name, group string, rank int) bool {
		return p.Take(of(group, rank), func() { out = append(out, name) }) != nil
	}
	take("honest", "a", 0)
	for i := range 10 {
		take(fmt.Sprint("m", i), "m", 0)
	}
	take("late", "b", 0)
	if want := []string{"m0", "m1", "m2", "m3", "m4", "m5", "m6", "m7"}; !slices.Equal(out, want) {
		t.Error(out)
	}
}

// A lower rank never pushes out a higher one, which finds room among the lower.
func TestRank(t *testing.T) {
	p := &Places{Max: 3}
	for i := range 3 {
		if p.Take(of(fmt.Sprint("known", i), 1), func() { t.Error("a known one gave way") }) == nil {
			t.Fatal("no room")
		}
	}
	if p.Take(of("stranger", 0), nil) != nil {
		t.Error("a stranger pushed out one who is known")
	}
	p = &Places{Max: 3}
	gone := 0
	for range 3 {
		p.Take(of("stranger", 0), func() { gone++ })
	}
	if p.Take(of("known", 1), nil) == nil || gone != 1 || p.Held() != 3 {
		t.Error("no room for one who is known", gone, p.Held())
	}
}

// Of a firm rank only those give way who hold more than the newcomer would.
func TestFirm(t *testing.T) {
	p := &Places{Max: 3, Firm: 1}
	gone := ""
	for _, g := range []string{"a", "b", "b"} {
		p.Take(of(g, 1), func() { gone += g })
	}
	if p.Take(of("c", 1), func() {}) == nil || gone != "b" {
		t.Errorf("%q", gone)
	}
	if p.Take(of("d", 1), nil) != nil || p.Take(of("d", 2), nil) == nil || gone != "ba" {
		t.Errorf("%q", gone)
	}
}

func TestEach(t *testing.T) {
	p := &Places{Max: 10, Each: 2, Settle: time.Hour}
	for i := range 4 {
		if got := p.Take(of("m", 0), nil) != nil; got != (i < 2) {
			t.Error(i, got)
		}
	}
	first := p.Take(of("a", 0), nil)
	if first == nil || p.Held() != 3 {
		t.Error("another group has no room", p.Held())
	}
	first.Leave()
	first.Leave()
	(*Place)(nil).Leave()
	if p.Held() != 2 {
		t.Error(p.Held())
	}
}

// There are never more than Max, and a newcomer never costs a group that holds less than its own.
func TestShares(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := &Places{Max: rapid.IntRange(1, 8).Draw(t, "max")}
		held := map[string]int{}
		for range rapid.IntRange(0, 60).Draw(t, "comers") {
			g := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "group")
			lost := ""
			held[g]++
			if p.Take(of(g, 0), func() {}) == nil {
				t.Fatal("an equal was refused")
			}
			now := map[string]int{}
			for _, h := range p.held {
				now[h.who().Group]++
			}
			for other, n := range held {
				if now[other] < n {
					lost = other
				}
			}
			if lost != "" && held[lost] < held[g] {
				t.Fatalf("%s with %d lost to %s with %d", lost, held[lost], g, held[g])
			}
			if held = now; p.Held() > p.Max {
				t.Fatal("too many")
			}
		}
	})
}

func TestDropWeighs(t *testing.T) {
	list := []Claim{{Group: "small", Weight: 1}, {Group: "big", Weight: 9}, {Group: "small", Weight: 1}, {Group: "big", Weight: 1}}
	list = Drop(list, func(c Claim) Claim { return c })
	if len(list) != 3 || list[0].Group != "small" || list[1].Group != "small" {
		t.Error(list)
	}
}
