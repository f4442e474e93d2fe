package hub

import (
	"hash/maphash"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// After failed log-ins the next one has to wait, longer from time to time but never
// long: whoever guesses at a name must not be able to keep its owner out.
const (
	lockThreshold        = 5   // failures of one name from one source, as in CouchDB (chttpd_auth_lockout)
	lockThresholdAddress = 100 // failures of one source, whatever the names; of one name through an undeclared proxy
	lockThresholdProxy   = 1000

	lockFirst   = 5 * time.Second // for the first failure above, then twice that, and so on
	lockName    = time.Minute     // the longest of a name: 1440 guesses a day
	lockAddress = 5 * time.Second // the longest of a source, which others may share
	lockForget  = 15 * time.Minute
	maxLocks    = 10_000
)

// A name that has logged in from a source goes on to be let in from there by the
// same password, whatever others try: so often, lest that become a way to guess.
const (
	knownFor   = 24 * time.Hour
	knownRate  = 10 // a second
	knownBurst = 50
)

// A source is where a log-in comes from: an address, and, where the address is
// only what an undeclared proxy tells, that of the proxy.
type source struct{ addr, via netip.Addr }

// counted is the address that quotas count by, which is told by nobody.
func (s source) counted() netip.Addr {
	if s.via.IsValid() {
		return s.via
	}
	return s.addr
}

// A lockKey is whose failures are counted. Name 0 stands for all names.
type lockKey struct {
	from source
	name uint64 // hash, since names may be long
}

var lockSeed = maphash.MakeSeed()

func lockOf(from source, name string) lockKey {
	return lockKey{from, maphash.String(lockSeed, name) | 1}
}

type failures struct {
	n    int
	last time.Time
}

// until is when the next log-in may be tried.
func (f *failures) until(threshold int, longest time.Duration) time.Time {
	if f.n < threshold {
		return time.Time{}
	}
	return f.last.Add(min(lockFirst<<min(f.n-threshold, 10), longest))
}

// A lockout counts log-ins that failed, or have not ended yet, and remembers who has logged in from where.
type lockout struct {
	now   func() time.Time
	mu    sync.Mutex
	m     map[lockKey]*failures
	known map[lockKey]*knownSource
}

// A knownSource is one from which a name has logged in.
type knownSource struct {
	at      time.Time
	guesses *rate.Limiter
}

func newLockout() *lockout {
	return &lockout{now: time.Now, m: map[lockKey]*failures{}, known: map[lockKey]*knownSource{}}
}

// check returns why a log-in is not to be tried, nil if it may be. What others of the
// source did is not held against an administrator's name, nor a known one.
func (l *lockout) check(from source, name string, operator bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.locked(from, name, operator)
}

func (l *lockout) locked(from source, name string, operator bool) error {
	known := l.isKnown(from, name)
	for i, c := range counters(from, name) {
		if i > 0 && known || operator && c.key.name == 0 {
			continue
		}
		if wait := l.wait(c.key, c.threshold, c.longest); wait > 0 && i == 0 {
			return &couch.RetryLater{Err: couch.Forbidden("Account is temporarily locked due to multiple authentication failures"), After: wait}
		} else if wait > 0 {
			return &couch.RetryLater{Err: &couch.Error{Status: 429, Code: "too_many_requests", Reason: "Too many log-ins have failed."}, After: wait}
		}
	}
	return nil
}

// A counter is one of those that a log-in is held against.
type counter struct {
	key       lockKey
	threshold int
	longest   time.Duration
}

// counters are those of a log-in, first that of the name from its source. What an undeclared
// proxy tells may be made up by whoever can reach the hub directly: so it is bounded too.
func counters(from source, name string) []counter {
	all := []counter{{lockOf(from, name), lockThreshold, lockName}, {lockKey{from: from}, lockThresholdAddress, lockAddress}}
	if from.via.IsValid() {
		proxy := source{via: from.via}
		all = append(all, counter{lockOf(proxy, name), lockThresholdAddress, lockAddress}, counter{lockKey{from: proxy}, lockThresholdProxy, lockAddress})
	}
	return all
}

// wait is how long the next log-in has to wait.
func (l *lockout) wait(k lockKey, threshold int, longest time.Duration) time.Duration {
	if f := l.get(k); f != nil {
		return f.until(threshold, longest).Sub(l.now())
	}
	return 0
}

func (l *lockout) get(k lockKey) *failures {
	f := l.m[k]
	if f != nil && l.now().Sub(f.last) >= lockForget {
		delete(l.m, k)
		return nil
	}
	return f
}

// begin counts a log-in as failed until right or undo says otherwise, so that
// many at once are not more guesses than many in turn.
func (l *lockout) begin(from source, name string, operator bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.locked(from, name, operator); err != nil {
		return err
	}
	for _, c := range counters(from, name) {
		l.add(c.key, 1)
	}
	return nil
}

// right forgets the failures of a name from a source, and remembers that it is known there.
func (l *lockout) right(from source, name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.takeBack(from, name)
	k := lockOf(from, name)
	delete(l.m, k)
	makeRoom(l.known, func(s *knownSource) bool { return l.now().Sub(s.at) >= knownFor })
	if s := l.known[k]; s != nil {
		s.at = l.now()
		return
	}
	l.known[k] = &knownSource{l.now(), rate.NewLimiter(knownRate, knownBurst)}
}

// undo takes back a begin that told nothing about the password.
func (l *lockout) undo(from source, name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.takeBack(from, name)
}

func (l *lockout) takeBack(from source, name string) {
	for _, c := range counters(from, name) {
		l.add(c.key, -1)
	}
}

// isKnown reports whether a name has logged in from a source lately. l.mu is held.
func (l *lockout) isKnown(from source, name string) bool {
	s := l.known[lockOf(from, name)]
	return s != nil && l.now().Sub(s.at) < knownFor
}

// lane is where a log-in waits.
func (l *lockout) lane(from source, name string, operator bool) laneOf {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.isKnown(from, name):
		return forKnown
	case operator:
		return forOperators
	}
	return forOthers
}

// mayCompare reports whether a log-in that check refused may still be compared with the
// password that was right last.
func (l *lockout) mayCompare(from source, name string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.isKnown(from, name) && l.known[lockOf(from, name)].guesses.AllowN(l.now(), 1)
}

func (l *lockout) add(k lockKey, n int) {
	f := l.get(k)
	if f == nil {
		if n < 0 {
			return
		}
		makeRoom(l.m, func(f *failures) bool { return l.now().Sub(f.last) >= lockForget })
		f = &failures{}
		l.m[k] = f
	}
	if n > 0 {
		f.last = l.now()
	}
	if f.n += n; f.n <= 0 {
		delete(l.m, k)
	}
}

// makeRoom bounds the memory that guessers can take: what is over goes first,
// then anything, many at a time, so that it costs little for each.
func makeRoom[V any](m map[lockKey]V, over func(V) bool) {
	if len(m) < maxLocks {
		return
	}
	for k, v := range m {
		if over(v) {
			delete(m, k)
		}
	}
	for k := range m {
		if len(m) <= maxLocks*9/10 {
			return
		}
		delete(m, k)
	}
}
