package hub

import (
	"net/netip"
	"sync"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// Lock-out after failed log-ins, with the numbers of CouchDB 3.4 and later
// (https://docs.couchdb.org/en/stable/config/auth.html, chttpd_auth_lockout).
const (
	lockThreshold        = 5               // failures of one name from one address
	lockThresholdAddress = 100             // failures of one address, whatever the names
	lockTime             = 5 * time.Minute // counted from the first failure
	maxLocks             = 10_000
)

// A lockKey is whose failures are counted. Name "" stands for all names.
type lockKey struct {
	from netip.Addr
	name string
}

type failures struct {
	n     int
	first time.Time
}

// A lockout counts log-ins that failed, or have not ended yet.
type lockout struct {
	now func() time.Time
	mu  sync.Mutex
	m   map[lockKey]*failures
}

func newLockout() *lockout { return &lockout{now: time.Now, m: map[lockKey]*failures{}} }

// check returns why a log-in is not to be tried, nil if it may be.
func (l *lockout) check(from netip.Addr, name string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.locked(from, name)
}

func (l *lockout) locked(from netip.Addr, name string) error {
	if f := l.get(lockKey{from, name}); f != nil && f.n >= lockThreshold {
		return &couch.RetryLater{Err: couch.Forbidden("Account is temporarily locked due to multiple authentication failures"), After: l.left(f)}
	}
	if f := l.get(lockKey{from: from}); f != nil && f.n >= lockThresholdAddress {
		return &couch.RetryLater{Err: &couch.Error{Status: 429, Code: "too_many_requests", Reason: "Too many log-ins have failed."}, After: l.left(f)}
	}
	return nil
}

func (l *lockout) get(k lockKey) *failures {
	f := l.m[k]
	if f != nil && l.left(f) <= 0 {
		delete(l.m, k)
		return nil
	}
	return f
}

func (l *lockout) left(f *failures) time.Duration { return f.first.Add(lockTime).Sub(l.now()) }

// begin counts a log-in as failed until right or undo says otherwise, so that
// many at once are not more guesses than many in turn.
func (l *lockout) begin(from netip.Addr, name string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.locked(from, name); err != nil {
		return err
	}
	l.add(lockKey{from, name}, 1)
	l.add(lockKey{from: from}, 1)
	return nil
}

// right forgets the failures of a name from an address.
func (l *lockout) right(from netip.Addr, name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.m, lockKey{from, name})
	l.add(lockKey{from: from}, -1)
}

// undo takes back a begin that told nothing about the password.
func (l *lockout) undo(from netip.Addr, name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.add(lockKey{from, name}, -1)
	l.add(lockKey{from: from}, -1)
}

func (l *lockout) add(k lockKey, n int) {
	f := l.get(k)
	if f == nil {
		if n < 0 {
			return
		}
		l.makeRoom()
		f = &failures{first: l.now()}
		l.m[k] = f
	}
	if f.n += n; f.n <= 0 {
		delete(l.m, k)
	}
}

// makeRoom bounds the memory that guessers can take: what is over goes first,
// then anything, many at a time, so that it costs little for each.
func (l *lockout) makeRoom() {
	if len(l.m) < maxLocks {
		return
	}
	for k, f := range l.m {
		if l.left(f) <= 0 {
			delete(l.m, k)
		}
	}
	for k := range l.m {
		if len(l.m) <= maxLocks*9/10 {
			return
		}
		delete(l.m, k)
	}
}
