package work

import (
	"bytes"
	"context"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

// A Memory is how many bytes the requests under way may hold together. One client
// may hold half of it.
type Memory struct {
	size  int64
	wait  time.Duration
	full  error
	never error
	free  *semaphore.Weighted

	mu      sync.Mutex
	clients map[string]*client
}

// A client is who has accounts.
type client struct {
	free     *semaphore.Weighted
	accounts int
}

// NewMemory returns a memory of size bytes. A request waits for bytes that others hold, and then
// fails with full; one that needs more than it could ever have fails with never.
func NewMemory(size int64, wait time.Duration, full, never error) *Memory {
	return &Memory{size: size, wait: wait, full: full, never: never, free: semaphore.NewWeighted(size), clients: map[string]*client{}}
}

// Account opens the account of one request of a client. Close it when the request has been answered.
func (m *Memory) Account(name string) *Account { return &Account{m: m, name: name} }

// enter counts an account that holds something.
func (m *Memory) enter(name string) *client {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.clients[name]
	if c == nil {
		c = &client{free: semaphore.NewWeighted(m.size / 2)}
		m.clients[name] = c
	}
	c.accounts++
	return c
}

// An Account is what one request holds of a [Memory]. It is used by one goroutine
// at a time. A nil Account holds nothing and never fails.
type Account struct {
	m      *Memory
	name   string
	client *client // nil: nothing was held so far
	held   int64
}

// Hold takes bytes before they are allocated. A request that holds some already
// waits a tenth of the time, so that two of them do not wait for each other for long.
func (a *Account) Hold(ctx context.Context, bytes int64) error {
	switch {
	case a == nil || bytes <= 0:
		return nil
	case a.held+bytes > a.m.size/2:
		return a.m.never
	case a.client == nil:
		a.client = a.m.enter(a.name)
	}
	if err := a.acquire(ctx, a.client.free, bytes); err != nil {
		return err
	}
	if err := a.acquire(ctx, a.m.free, bytes); err != nil {
		a.client.free.Release(bytes)
		return err
	}
	a.held += bytes
	return nil
}

func (a *Account) acquire(ctx context.Context, free *semaphore.Weighted, bytes int64) error {
	if free.TryAcquire(bytes) {
		return nil
	}
	wait := a.m.wait
	if a.held > 0 { // others may wait for that
		wait /= 10
	}
	waiting, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	switch err := free.Acquire(waiting, bytes); {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	return a.m.full
}

// TryHold is Hold without waiting: it reports whether there were so many bytes.
func (a *Account) TryHold(bytes int64) bool {
	switch {
	case a == nil || bytes <= 0:
		return true
	case a.held+bytes > a.m.size/2:
		return false
	case a.client == nil:
		a.client = a.m.enter(a.name)
	}
	if !a.client.free.TryAcquire(bytes) {
		return false
	}
	if !a.m.free.TryAcquire(bytes) {
		a.client.free.Release(bytes)
		return false
	}
	a.held += bytes
	return true
}

// Release gives back bytes that were held, before the account is closed.
func (a *Account) Release(bytes int64) {
	if a == nil || bytes <= 0 {
		return
	}
	if bytes = min(bytes, a.held); bytes == 0 {
		return
	}
	a.held -= bytes
	a.m.free.Release(bytes)
	a.client.free.Release(bytes)
}

// Close gives everything back. Nothing is held afterwards.
func (a *Account) Close() {
	if a == nil || a.client == nil {
		return
	}
	a.Release(a.held)
	a.m.mu.Lock()
	defer a.m.mu.Unlock()
	if a.client.accounts--; a.client.accounts == 0 {
		delete(a.m.clients, a.name)
	}
	a.client = nil
}

type accountKey struct{}

// WithAccount returns a context under which [Hold] and [Release] use an account.
func WithAccount(ctx context.Context, a *Account) context.Context {
	return context.WithValue(ctx, accountKey{}, a)
}

// Hold takes bytes from the account of the request that a context belongs to, if it has one.
func Hold(ctx context.Context, bytes int64) error { return accountOf(ctx).Hold(ctx, bytes) }

// TryHold is [Hold] without waiting.
func TryHold(ctx context.Context, bytes int64) bool { return accountOf(ctx).TryHold(bytes) }

// Release gives back bytes that [Hold] has taken.
func Release(ctx context.Context, bytes int64) { accountOf(ctx).Release(bytes) }

func accountOf(ctx context.Context) *Account {
	a, _ := ctx.Value(accountKey{}).(*Account)
	return a
}

// JSONSize is about how many bytes a JSON text takes as Go values, besides itself: an element may be
// two bytes of text, and takes some eighty of memory.
func JSONSize(text []byte) int64 {
	n := int64(len(text))
	for _, sign := range []string{",", "[", "{"} {
		n += 80 * int64(bytes.Count(text, []byte(sign)))
	}
	return n
}
