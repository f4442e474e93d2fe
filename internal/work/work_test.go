package work

import (
	"context"
	"errors"
	"math"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errGone = errors.New("gone")

// A budget ends when it is spent and when its context ends, for good.
func TestBudget(t *testing.T) {
	b := NewBudget(t.Context(), 100)
	if b.Spend(60) != nil || b.Spend(40) != nil || !errors.Is(b.Spend(1), ErrSpent) || !errors.Is(b.Spend(-1000), ErrSpent) || !errors.Is(b.Err(), ErrSpent) {
		t.Error(b.Err())
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	b = NewBudget(ctx, math.MaxInt64)
	defer b.Close()
	if err := b.Spend(3 * light); err != nil {
		t.Error(err)
	}
	cancel(errGone)
	if err := b.Spend(2 * glance); !errors.Is(err, errGone) {
		t.Error(err)
	}
}

// Heavy computations are as many as half of the processors, and all of them get on.
func TestHeavyTakesTurns(t *testing.T) {
	var running, most atomic.Int64
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			b := NewBudget(t.Context(), math.MaxInt64)
			defer b.Close()
			_ = b.Spend(light + 1)
			for range 20 {
				n := running.Add(1)
				for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
				}
				runtime.Gosched()
				running.Add(-1)
				if err := b.Spend(glance + 1); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if limit := int64(max(1, runtime.GOMAXPROCS(0)/2)); most.Load() > limit {
		t.Errorf("%d at a time, not %d", most.Load(), limit)
	}
}

// A light computation needs no turn.
func TestLightNeedsNoTurn(t *testing.T) {
	heavy := NewBudget(t.Context(), math.MaxInt64)
	defer heavy.Close()
	_ = heavy.Spend(light + 1)
	for range 100 {
		b := NewBudget(t.Context(), math.MaxInt64)
		if err := b.Spend(light); err != nil || b.turn {
			t.Error(err, b.turn)
		}
		b.Close()
	}
}

// Memory is held back from those who come when it is used up, and one client has half of it.
func TestMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		full, never := errors.New("full"), errors.New("never")
		m := NewMemory(100, time.Minute, full, never)
		ann, more, bob, eve := m.Account("ann"), m.Account("ann"), m.Account("bob"), m.Account("eve")
		want := func(a *Account, bytes int64, want error) {
			t.Helper()
			if err := a.Hold(t.Context(), bytes); !errors.Is(err, want) {
				t.Errorf("%d bytes: %v", bytes, err)
			}
		}
		want(ann, 51, never)
		want(ann, 30, nil)
		want(ann, 21, never)
		want(more, 21, full) // ann's half
		want(bob, 50, nil)
		want(more, 20, nil)
		begun := time.Now()
		want(eve, 1, full)
		if took := time.Since(begun); took != time.Minute {
			t.Error(took)
		}
		go func() {
			time.Sleep(time.Second)
			more.Release(5)
		}()
		want(eve, 5, nil)
		ended, cancel := context.WithCancelCause(t.Context())
		cancel(errGone)
		if err := Hold(WithAccount(ended, eve), 1); !errors.Is(err, errGone) {
			t.Error(err)
		}
		if err := Hold(t.Context(), 1<<40); err != nil {
			t.Error(err)
		}
		for _, a := range []*Account{ann, more, bob, eve} {
			a.Close()
		}
		if !m.free.TryAcquire(100) || len(m.clients) > 0 {
			t.Error("still held")
		}
	})
}
