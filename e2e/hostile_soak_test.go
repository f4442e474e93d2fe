package e2e

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/loveseat-db/loveseat/e2e/evil"
)

// What the honest side of a hostile soak is promised.
const (
	soakPatience = time.Second                       // of an honest request, at p99
	hubPeak      = hubMemory + hubMemory/4 + 160<<20 // bytes of memory of the hub: --limit-memory, and what it takes anyway
	sharerPeak   = 256 << 20                         // of a sharer
	loneWait     = 10 * time.Second                  // soakPatience where other tests run at the same time
)

// TestHostileSoak: a hostile peer and a hostile stranger make all attacks of package evil, at random, next to honest users of
// the same hub and sharers. These are served in time, the programs keep their memory, nothing is lost and nothing told.
// `make soak` does so for ten minutes (or LOVESEAT_SOAK_TIME), and judges times.
func TestHostileSoak(t *testing.T) {
	length, patience := 15*time.Second, loneWait
	if os.Getenv("LOVESEAT_SOAK") != "" {
		var err error
		if length, err = time.ParseDuration(cmp.Or(os.Getenv("LOVESEAT_SOAK_TIME"), "10m")); err != nil {
			t.Fatal(err)
		}
		patience = soakPatience
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	s := &hostileSoak{hostileWorld: newHostileWorld(t, length+10*time.Minute), times: map[string][]time.Duration{}, failed: map[string]int{}, attacks: map[string]*attackCount{}}
	s.startHonest()
	s.run(length, seed)
	s.judge(patience)
	s.checkHonest()
	s.settle()
}

// A hostileSoak is what TestHostileSoak runs.
type hostileSoak struct {
	*hostileWorld
	open  string // the URL of the share "common", opened by bob
	pouch *pouch

	mu      sync.Mutex
	times   map[string][]time.Duration // of honest requests, by their kind
	failed  map[string]int             // honest requests that failed, by their kind and why
	written []string                   // ids of documents in "notes" that were acknowledged
	common  []string                   // and in "common", by either side
	attacks map[string]*attackCount
}

// An attackCount is what has become of an attack.
type attackCount struct {
	made, unmade, through int
	last                  error
}

// startHonest starts what the honest side has besides the world: alice's database "common", shared with bob only, who has
// it open, syncs it both ways with his own, and edits that.
func (s *hostileSoak) startHonest() {
	s.Helper()
	hub := withLogIn(s.target.Direct, s.target.Ann) + "/hub"
	s.edit("common/common", fmt.Sprintf(`{"_id":"first","secret":%q}`, s.target.Ann.Password))
	s.edit("bob/common", `{"_id":"first of bob"}`)
	bob := s.peerID("bob")
	shared := s.sharer("common", hub, s.path("common/common"), "--allow", bob)
	opened := s.start(s.command("loveseat", "--identity", s.path("bob"), "open", hub, shared.ID, "--network", "127.0.0.0/8", "--json"))
	var e struct{ URL string }
	s.next(opened, "open", &e)
	s.open = e.URL
	s.procs["bob's open share"] = opened
	s.procs["bob's sync"] = s.start(s.command("loveseat", "--identity", s.path("bob"), "sync", s.path("bob/common"), s.target.Direct+"/hub/share:"+shared.ID, "--live", "--network", "127.0.0.0/8"))
	s.pouch = s.world.pouch()
	s.pouch.do("live", step{"name": "hub", "a": s.path("pouch"), "b": withLogIn(s.target.Direct, s.target.Ann) + "/notes"}, nil)
}

// run has both sides at work for a time.
func (s *hostileSoak) run(length time.Duration, seed uint64) {
	ctx, cancel := context.WithTimeout(s.ctx, length)
	defer cancel()
	var all sync.WaitGroup
	for i, stranger := range []bool{false, true} {
		attacks := slices.DeleteFunc(evil.All(), func(a evil.Attack) bool { return a.Stranger != stranger || a.Once })
		random := rand.New(rand.NewPCG(seed, uint64(i)))
		all.Go(func() {
			for ctx.Err() == nil {
				for _, i := range random.Perm(len(attacks)) { // each as often as the others
					s.attackNow(ctx, attacks[i])
				}
			}
		})
	}
	all.Go(func() {
		s.everyNow(ctx, 20*time.Millisecond, "hub", withLogIn(s.target.Direct, s.target.Ann)+"/notes", &s.written)
	})
	all.Go(func() { s.everyNow(ctx, 50*time.Millisecond, "share", s.open, &s.common) })
	all.Go(func() { s.editLocally(ctx) })
	all.Wait()
}

func (s *hostileSoak) attackNow(ctx context.Context, a evil.Attack) {
	if ctx.Err() != nil {
		return
	}
	limited, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	err := a.Run(limited, s.target)
	if ctx.Err() != nil && err != nil {
		return // cut short, which shows nothing
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	name := fmt.Sprintf("%2d %s", a.Item, a.Name)
	c := s.attacks[name]
	if c == nil {
		c = &attackCount{}
		s.attacks[name] = c
	}
	switch {
	case errors.Is(err, evil.ErrNotMade):
		c.unmade++
	case err != nil:
		c.through++
	}
	c.made++
	c.last = cmp.Or(err, c.last)
}

// everyNow makes honest requests to a database, one after the other.
func (s *hostileSoak) everyNow(ctx context.Context, every time.Duration, where, url string, acknowledged *[]string) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for n := 0; ctx.Err() == nil; n++ {
		id := fmt.Sprintf("%s-%06d", where, n/4)
		switch n % 4 {
		case 0:
			if s.timed(where+" PUT", http.MethodPut, url+"/"+id, fmt.Sprintf(`{"n":%d,"kind":"honest"}`, n)) {
				s.mu.Lock()
				*acknowledged = append(*acknowledged, id)
				s.mu.Unlock()
			}
		case 1:
			s.timed(where+" GET", http.MethodGet, url+"/"+id, "")
		case 2:
			s.timed(where+" _find", http.MethodPost, url+"/_find", fmt.Sprintf(`{"selector":{"kind":"honest","n":%d},"limit":5}`, n-2))
		case 3:
			s.timed(where+" _changes", http.MethodGet, url+"/_changes?descending=true&limit=10&include_docs=true", "")
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// timed makes an honest request, and reports whether it succeeded.
func (s *hostileSoak) timed(kind, method, url, body string) bool {
	began := time.Now()
	status, b, err := s.http(method, url, body)
	took := time.Since(began)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.times[kind] = append(s.times[kind], took)
	if err == nil && status/100 == 2 {
		return true
	}
	s.failed[fmt.Sprintf("%s: %d %.150s %v", kind, status, b, err)]++
	return false
}

// editLocally has bob edit his own database.
func (s *hostileSoak) editLocally(ctx context.Context) {
	tick := time.NewTicker(2 * time.Second)
	defer tick.Stop()
	for n := 0; ctx.Err() == nil; n++ {
		id := fmt.Sprintf("bob-%d", n)
		if r := s.world.run(fmt.Sprintf(`{"_id":%q}`, id), s.command("loveseat", "import", s.path("bob/common"), "-", "--json")); r.status == 0 {
			s.mu.Lock()
			s.common = append(s.common, id)
			s.mu.Unlock()
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// settle waits until the honest sides hold the same, and checks that what was acknowledged is there.
func (s *hostileSoak) settle() {
	s.Helper()
	s.eventually("alice and bob hold the same", func() error {
		r := s.world.run("", s.command("loveseat", "verify", s.path("common/common"), s.path("bob/common")))
		if r.status != 0 {
			return fmt.Errorf("%.1000s%s", r.stdout, r.stderr)
		}
		return nil
	})
	s.lost("notes", withLogIn(s.target.Direct, s.target.Ann)+"/notes", s.written)
	s.lost("common", s.open, s.common)
	s.eventually("PouchDB holds what the hub holds", func() error {
		var there, here changes
		s.ok(json.Unmarshal(s.as(s.target.Ann, http.MethodGet, "/notes/_changes?style=all_docs", ""), &there))
		s.pouch.call(s.path("pouch"), "changes", &here, map[string]any{"style": "all_docs"})
		if !maps.Equal(there.leaves(), here.leaves()) {
			return fmt.Errorf("%d documents, the hub has %d", len(here.Results), len(there.Results))
		}
		return nil
	})
}

func (s *hostileSoak) lost(name, url string, ids []string) {
	s.Helper()
	status, b, err := s.http(http.MethodGet, url+"/_all_docs", "")
	s.ok(err)
	missing := slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return strings.Contains(string(b), `"`+id+`"`) })
	if status != http.StatusOK || len(missing) > 0 {
		s.Errorf("%s (%d): %d of %d documents that were acknowledged are lost: %.5q", name, status, len(missing), len(ids), missing)
	}
	s.Logf("%s: %d documents were acknowledged and are there", name, len(ids)-len(missing))
}

// judge reports what was measured, and fails the test for what is beyond what is promised.
func (s *hostileSoak) judge(patience time.Duration) {
	s.Helper()
	for _, kind := range slices.Sorted(maps.Keys(s.times)) {
		all := slices.Sorted(slices.Values(s.times[kind]))
		p99 := all[len(all)*99/100]
		s.Logf("%-16s %6d requests, p50 %8v, p99 %8v, at most %8v", kind, len(all), all[len(all)/2].Round(10*time.Microsecond), p99.Round(10*time.Microsecond), all[len(all)-1].Round(10*time.Microsecond))
		if p99 > patience {
			s.Errorf("%s: p99 is %v, more than %v", kind, p99, patience)
		}
	}
	for _, why := range slices.Sorted(maps.Keys(s.failed)) {
		s.Errorf("%d honest requests failed: %s", s.failed[why], why)
	}
	for _, name := range slices.Sorted(maps.Keys(s.procs)) {
		_, peak := evil.RSS(s.procs[name].Pid())
		limit := int64(sharerPeak)
		if strings.HasSuffix(name, "hub") {
			limit = hubPeak
		}
		s.Logf("%-24s at most %4d MiB, may take %d", name, peak>>20, limit>>20)
		if peak > limit {
			s.Errorf("%s took %d MiB, may take %d", name, peak>>20, limit>>20)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.attacks)) {
		c := s.attacks[name]
		s.Logf("%4d × %s", c.made, name)
		switch {
		case c.through > 0:
			s.Errorf("got through %d of %d times: %s: %.500v", c.through, c.made, name, c.last)
		case c.unmade > 0 && c.unmade == c.made:
			s.Errorf("could not be made, %d times: %s: %.500v", c.made, name, c.last)
		}
	}
	s.Logf("the hostile side has received %d MB", s.target.Loot.Bytes()/1e6)
}
