package e2e

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/loveseat-db/loveseat/e2e/proc"
)

// soakTime is how long a soak runs: `make soak` sets LOVESEAT_SOAK, and LOVESEAT_SOAK_TIME if not an hour. Otherwise it is short.
func soakTime(t *testing.T) time.Duration {
	t.Helper()
	if os.Getenv("LOVESEAT_SOAK") == "" {
		return 30 * time.Second
	}
	length, err := time.ParseDuration(cmp.Or(os.Getenv("LOVESEAT_SOAK_TIME"), "1h"))
	if err != nil {
		t.Fatal(err)
	}
	return length
}

// TestSoak: three Go peers and a PouchDB sync live, two ways, in a circle through a hub's database and through shares
//
//	hub ─ alice ═ bob ═ carol ═ PouchDB ─ hub	═ a share, ─ HTTP
//
// while all of them are edited at random, processes are killed, held up and started again, shares end and
// come back, and connections to the hub are cut. Again and again, and at the end, all hold the same.
func TestSoak(t *testing.T) {
	length := soakTime(t)
	if length < time.Minute {
		t.Parallel()
	}
	s := newSoak(t, length)
	began := time.Now()
	for time.Since(began) < length {
		s.rounds++
		mend := s.breakSomething()
		for range 2 + s.random.IntN(6) {
			s.edit()
			s.breathe()
		}
		mend()
		if s.rounds%3 == 0 {
			s.settle()
			s.alive()
		}
		if s.rounds%50 == 0 {
			s.log(began)
		}
	}
	s.settle()
	s.alive()
	s.equalLeaves()
	s.log(began)
}

// A soak is what TestSoak runs.
type soak struct {
	*world
	random  *rand.Rand
	proxy   *proxy // to the hub
	hub     *hub
	hubURL  string // of the hub's server, past the proxy
	links   map[string]string
	openURL string // of carol's share, for the PouchDB
	pouch   *pouch
	procs   map[string]*soakProc
	order   []string        // of procs, as they are started
	down    map[string]bool // what does not take edits now

	created []string // ids of documents that nobody deletes
	rounds  int
	edits   int
	settled int
	longest time.Duration // that it took until all held the same
	faults  map[string]int
}

// A soakProc is a process that is started again after it was killed.
type soakProc struct {
	*proc.Proc
	start func() *proc.Proc
}

func newSoak(t *testing.T, length time.Duration) *soak {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	s := &soak{
		world: newWorldFor(t, length+15*time.Minute), random: rand.New(rand.NewPCG(seed, 0)),
		links: map[string]string{}, procs: map[string]*soakProc{}, down: map[string]bool{}, faults: map[string]int{},
	}
	addr := "127.0.0.1:0"
	s.process("hub", func() *proc.Proc {
		s.hub = s.hubAt(addr, "hub")
		addr, s.hubURL = s.hub.addr(), s.hub.url
		return s.hub.Proc
	})
	s.proxy = newProxy(t, addr)
	notes := s.proxy.url() + "/notes"
	for _, side := range goSides {
		s.edit1(side, fmt.Sprintf(`{"_id":"first of %s"}`, side))
		s.process("share "+side, func() *proc.Proc {
			sharer := s.share(s.proxy.url()+"/hub", side+"/notes", "--name", side)
			s.links[side] = sharer.Link
			return sharer.Proc
		})
	}
	s.process("sync alice", func() *proc.Proc { return s.syncLive("alice", notes) })
	s.process("sync bob", func() *proc.Proc { return s.syncLive("bob", s.links["alice"]) })
	s.process("sync carol", func() *proc.Proc { return s.syncLive("carol", s.links["bob"]) })
	listen := "127.0.0.1:0"
	s.process("open", func() *proc.Proc {
		p := s.start(s.command("loveseat", "open", s.proxy.url()+"/hub", s.links["carol"], "--listen", listen, "--json"))
		var e struct{ URL string }
		s.next(p, "open", &e)
		s.openURL = e.URL
		listen = strings.TrimSuffix(strings.TrimPrefix(e.URL, "http://"), "/notes")
		return p
	})
	s.eventually("the hub has the database", func() error { return s.has(s.hubURL+"/notes", "first of alice") })
	s.process("pouch", func() *proc.Proc {
		s.pouch = s.world.pouch()
		s.pouch.do("live", step{"name": "hub", "a": s.path("pouch"), "b": notes}, nil)
		s.pouch.do("live", step{"name": "share", "a": s.path("pouch"), "b": s.openURL}, nil)
		return s.pouch.p
	})
	return s
}

// process starts a process that can be killed and started again.
func (s *soak) process(name string, start func() *proc.Proc) {
	s.Helper()
	s.procs[name] = &soakProc{start(), start}
	s.order = append(s.order, name)
}

// syncLive is without --json, whose lines nobody reads for an hour.
func (s *soak) syncLive(side, with string) *proc.Proc {
	s.Helper()
	return s.start(s.command("loveseat", "sync", s.path(side+"/notes"), with, "--live"))
}

// alive checks that no process has ended by itself.
func (s *soak) alive() {
	s.Helper()
	for name, p := range s.procs {
		if p.Exited() {
			s.Fatalf("%s has ended: %v", name, p.Wait())
		}
	}
}

// settle waits until all hold the same.
func (s *soak) settle() {
	s.Helper()
	began := time.Now()
	for {
		err := s.same()
		if err == nil {
			break
		}
		s.alive()
		if time.Since(began) > 4*time.Minute {
			s.Fatalf("round %d, not the same after %v: %v", s.rounds, time.Since(began), err)
		}
		time.Sleep(100 * time.Millisecond)
	}
	s.settled++
	s.longest = max(s.longest, time.Since(began))
}

// same proves by `loveseat verify` that the Go peers and the hub hold the same leaves, and compares PouchDB's with them.
func (s *soak) same() error {
	s.Helper()
	for _, other := range []string{s.hubURL + "/notes", s.path("bob/notes"), s.path("carol/notes")} {
		if r := s.run("", s.command("loveseat", "verify", s.path("alice/notes"), other)); r.status != 0 {
			return fmt.Errorf("alice and %s: %.1000s%s", other, r.stdout, r.stderr)
		}
	}
	status, b, err := s.http("GET", s.hubURL+"/notes/_changes?style=all_docs", "")
	if err != nil || status != 200 {
		return fmt.Errorf("%d %s %v", status, b, err)
	}
	var there, here changes
	s.ok(json.Unmarshal(b, &there))
	s.pouch.call(s.path("pouch"), "changes", &here, map[string]any{"style": "all_docs"})
	ours, theirs := there.leaves(), here.leaves()
	for id := range ours {
		if ours[id] != theirs[id] {
			return fmt.Errorf("%s: PouchDB has %q, the hub %q", id, theirs[id], ours[id])
		}
	}
	if len(ours) != len(theirs) {
		return fmt.Errorf("PouchDB has %d documents, the hub %d", len(theirs), len(ours))
	}
	return nil
}

type changes struct {
	Results []struct {
		ID      string
		Changes []struct{ Rev string }
	}
}

// leaves are the leaf revisions of each document.
func (c changes) leaves() map[string]string {
	all := make(map[string]string, len(c.Results))
	for _, r := range c.Results {
		var revs []string
		for _, rev := range r.Changes {
			revs = append(revs, rev.Rev)
		}
		slices.Sort(revs)
		all[r.ID] = strings.Join(revs, " ")
	}
	return all
}

// equalLeaves compares what all leaves say, with histories and attachments, and that nothing is lost.
func (s *soak) equalLeaves() {
	s.Helper()
	alice := s.local("alice/notes")
	s.equal(map[string]leaves{"alice": alice, "bob": s.local("bob/notes"), "carol": s.local("carol/notes"),
		"the hub": s.remote(s.hubURL + "/notes"), "PouchDB": s.pouch.leaves(s.path("pouch"))})
	there := alice.alive()
	for _, id := range s.created {
		if there[id] == 0 {
			s.Errorf("%s is lost", id)
		}
	}
	s.Logf("%d documents with %d leaves, %d in conflict, are the same at alice, bob, carol, the hub and PouchDB", len(there), len(alice), len(alice.conflicted()))
}

func (s *soak) log(began time.Time) {
	s.Logf("after %v: %d rounds, %d edits, %d documents made; %d times all were the same, after at most %v",
		time.Since(began).Round(time.Second), s.rounds, s.edits, len(s.created), s.settled, s.longest.Round(time.Millisecond))
	for _, kind := range slices.Sorted(maps.Keys(s.faults)) {
		s.Logf("  %4d × %s", s.faults[kind], kind)
	}
	for _, name := range s.order {
		s.Logf("  %s: %d MiB", name, s.procs[name].rss()>>20)
	}
}
