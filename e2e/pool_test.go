package e2e

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/loveseat-db/loveseat/e2e/proc"
)

// TestPoolSoak: peers join a topic, leave it and are killed at random, while all of them are written to. After each round
// those who are there hold the same, and at the end all. `make soak` does so with 16 peers and 50 rounds (or LOVESEAT_POOL_ROUNDS).
func TestPoolSoak(t *testing.T) {
	members, rounds, maxPeers := 4, 4, 2
	if os.Getenv("LOVESEAT_SOAK") != "" {
		var err error
		if rounds, err = strconv.Atoi(cmp.Or(os.Getenv("LOVESEAT_POOL_ROUNDS"), "50")); err != nil {
			t.Fatal(err)
		}
		members, maxPeers = 16, 6
	} else {
		t.Parallel()
	}
	p := newPool(t, members, maxPeers, time.Duration(rounds)*3*time.Minute+10*time.Minute)
	for _, m := range p.members {
		p.join(m)
	}
	p.settle()
	for p.round = range rounds {
		p.change(p.members[p.random.IntN(members)])
		for _, m := range p.members {
			if p.random.IntN(3) == 0 {
				p.change(m)
			}
			if p.random.IntN(2) == 0 {
				p.write(m)
			}
		}
		if p.round%5 == 4 {
			p.hub.Kill()
			p.hub = p.hubAt(p.hub.addr(), "hub")
		}
		p.settle()
	}
	for _, m := range p.members {
		if m.Proc == nil {
			p.join(m)
		}
	}
	p.settle()
	sides := map[string]leaves{}
	for _, m := range p.members {
		p.ok(m.Stop()) // while the hub is there
		sides[m.name] = p.local(m.name + "/notes")
	}
	p.equal(sides)
	if n := sides[p.members[0].name].documents(); n != p.written {
		t.Errorf("%d documents, written were %d", n, p.written)
	}
	t.Logf("%d peers, %d rounds: %d joins, %d leaves, %d kills; %d documents; the same after %v in the median and at most %v",
		members, rounds, p.joins, p.leaves, p.kills, p.written, median(p.took).Round(time.Millisecond), p.longest.Round(time.Millisecond))
}

// A pool is some peers of one topic.
type pool struct {
	*world
	random   *rand.Rand
	hub      *hub
	members  []*poolMember
	maxPeers int

	round, joins, leaves, kills int
	written                     int // documents
	took                        []time.Duration
	longest                     time.Duration
}

// A poolMember is a database, and a `loveseat join` while it is there.
type poolMember struct {
	*proc.Proc
	name string
}

func newPool(t *testing.T, members, maxPeers int, limit time.Duration) *pool {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	p := &pool{world: newWorldFor(t, limit), random: rand.New(rand.NewPCG(seed, 0)), maxPeers: maxPeers, written: 1}
	p.hub = p.world.hub("hub")
	for i := range members {
		m := &poolMember{name: fmt.Sprintf("peer%02d", i)}
		p.members = append(p.members, m)
		p.write(m)
	}
	return p
}

func (p *pool) join(m *poolMember) {
	p.Helper()
	p.joins++
	m.Proc = p.start(p.command("loveseat", "join", p.hub.db, p.path(m.name+"/notes"), "topic", "--max-peers", fmt.Sprint(p.maxPeers), "--json"))
	p.next(m.Proc, "joined", nil)
}

// change has a member come, leave or be killed, but for the last two.
func (p *pool) change(m *poolMember) {
	p.Helper()
	there := 0
	for _, m := range p.members {
		if m.Proc != nil {
			there++
		}
	}
	switch {
	case m.Proc == nil:
		p.join(m)
		return
	case there <= 2:
		return
	case p.random.IntN(2) == 0:
		p.leaves++
		p.ok(m.Stop())
	default:
		p.kills++
		m.Kill()
	}
	m.Proc = nil
}

// write edits a member's database: a document of its own, and one that all write.
func (p *pool) write(m *poolMember) {
	p.Helper()
	p.edit(m.name+"/notes", fmt.Sprintf(`{"_id":"%s-%d"}`, m.name, p.written), fmt.Sprintf(`{"_id":"clash","by":%q,"n":%d}`, m.name, p.written))
	p.written++
}

// settle waits until all members that are there hold the same.
func (p *pool) settle() {
	p.Helper()
	began := time.Now()
	for {
		err := p.same()
		if err == nil {
			break
		}
		if time.Since(began) > 3*time.Minute {
			p.Fatalf("round %d, not the same after %v: %v", p.round, time.Since(began), err)
		}
		time.Sleep(50 * time.Millisecond)
	}
	took := time.Since(began)
	p.took, p.longest = append(p.took, took), max(p.longest, took)
}

// same compares the first member that is there with the others by `loveseat verify`.
func (p *pool) same() error {
	p.Helper()
	var first *poolMember
	var equal string
	for _, m := range p.members {
		switch {
		case m.Proc == nil:
			continue
		case m.Exited():
			p.Fatalf("%s has ended: %v", m.name, m.Wait())
		case first == nil:
			first = m
			continue
		}
		r := p.run("", p.command("loveseat", "verify", p.path(first.name+"/notes"), p.path(m.name+"/notes")))
		said, _, _ := strings.Cut(r.stdout, " (") // without the time it took
		if r.status != 0 || equal != "" && said != equal {
			return fmt.Errorf("%s and %s: %.1000s%s", first.name, m.name, r.stdout, r.stderr)
		}
		equal = said
	}
	return nil
}

// TestPoolCrash: who is killed is missed long before its lease expires, and when it comes back it is the same member.
func TestPoolCrash(t *testing.T) {
	t.Parallel()
	p := newPool(t, 2, 8, testTime)
	for _, m := range p.members {
		p.join(m)
	}
	stays, dies := p.members[0], p.members[1]
	var e struct{ Share, Name, Peer, Route string }
	p.next(stays.Proc, "in-sync", &e)
	if e.Name != "notes" || e.Route == "" || e.Peer == "" {
		t.Errorf("%+v", e)
	}
	was := e.Share
	dies.Kill()
	p.next(stays.Proc, "failed", &e)
	if e.Share != was {
		t.Errorf("%+v", e)
	}
	p.write(stays)
	p.write(dies)
	p.join(dies)
	p.next(stays.Proc, "in-sync", &e)
	if e.Share != was {
		t.Errorf("it came back as %s, was %s", e.Share, was)
	}
	p.settle()
	p.ok(dies.Stop())
	p.next(stays.Proc, "gone", &e)
	if e.Share != was {
		t.Errorf("%+v", e)
	}
}

func median(all []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[len(sorted)/2]
}
