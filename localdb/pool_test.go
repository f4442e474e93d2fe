package localdb

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/localdb/internal/sqlite"
)

// TestReadersTakeTurns: a client with many calls lets another one's only call in after one of its own.
func TestReadersTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(func() (*sqlite.Conn, error) { return nil, nil })
		for range maxReaders {
			if _, err := p.get(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		var order strings.Builder // written by one at a time
		wait := func(ctx context.Context, client string) {
			go func() {
				if _, err := p.get(couch.WithClient(ctx, client)); err == nil {
					order.WriteString(client)
				} else if !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
			}()
			synctest.Wait()
		}
		ctx, cancel := context.WithCancel(t.Context())
		for _, client := range []string{"a", "a", "a", "a", "b", "c", "c"} {
			wait(t.Context(), client)
		}
		wait(ctx, "a")
		wait(ctx, "d")
		cancel()
		for range 7 {
			p.leave()
			synctest.Wait()
		}
		if order.String() != "abcacaa" {
			t.Errorf("the order is %s", &order)
		}
		for range maxReaders {
			p.leave()
		}
		if p.used != 0 || len(p.lines) != 0 {
			t.Errorf("%d used, %d lines", p.used, len(p.lines))
		}
	})
}

// TestClosedPool: those who wait are sent away, those who read are waited for.
func TestClosedPool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(func() (*sqlite.Conn, error) { return nil, errors.New("none") })
		for range maxReaders {
			if err := p.enter(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		waits, ends := make(chan error, 1), make(chan error, 1)
		go func() { waits <- p.enter(t.Context()) }()
		synctest.Wait()
		go func() { ends <- p.close() }()
		if err := <-waits; !errors.Is(err, errClosed) {
			t.Error(err)
		}
		for range maxReaders {
			synctest.Wait()
			select {
			case <-ends:
				t.Error("closed while somebody reads")
			default:
			}
			p.leave()
		}
		if err := <-ends; err != nil {
			t.Error(err)
		}
		if _, err := p.get(t.Context()); !errors.Is(err, errClosed) {
			t.Error(err)
		}
	})
}
