package couchkivik

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	kivik "github.com/go-kivik/kivik/v4"
	"go.uber.org/goleak"

	"github.com/loveseat-db/loveseat/internal/couch"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeStore opens fakeDBs and counts.
type fakeStore struct {
	couch.Store
	opened int
	closed int
	last   *fakeDB
}

func (s *fakeStore) Open(_ context.Context, name string) (couch.DB, error) {
	if name != "x" {
		return nil, couch.NotFound("Database does not exist.")
	}
	s.opened++
	s.last = &fakeDB{}
	return s.last, nil
}

func (s *fakeStore) Close() error {
	s.closed++
	return nil
}

// fakeDB answers Info and Changes until it is gone.
type fakeDB struct {
	couch.DB
	gone bool
}

func (d *fakeDB) Info(context.Context) (*couch.Info, error) {
	if d.gone {
		return nil, couch.NotFound("Database does not exist.")
	}
	return &couch.Info{Name: "x"}, nil
}

func (d *fakeDB) Changes(_ context.Context, _ couch.ChangesOptions, fn func(*couch.Change) error) (couch.ChangesResult, error) {
	if err := fn(&couch.Change{ID: "a"}); err != nil {
		return couch.ChangesResult{}, err
	}
	return couch.ChangesResult{}, couch.NotFound("Database does not exist.")
}

var fakeByDSN = map[string]*fakeStore{"one": {}, "two": {}}

func init() {
	Register("fake", func(dsn string) (couch.Store, error) {
		if s := fakeByDSN[dsn]; s != nil {
			return s, nil
		}
		return nil, couch.BadRequest("no such dsn")
	})
}

func TestOwnership(t *testing.T) {
	client, err := kivik.New("fake", "one")
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Close(); err != nil || fakeByDSN["one"].closed != 1 {
		t.Errorf("a store that the client opened: %v, closed %d times", err, fakeByDSN["one"].closed)
	}
	mine := &fakeStore{}
	if err := Client("fake", mine).Close(); err != nil || mine.closed != 0 {
		t.Errorf("somebody else's store: %v, closed %d times", err, mine.closed)
	}
	if _, err := kivik.New("fake", "none"); kivik.HTTPStatus(err) != 400 {
		t.Error(err)
	}
}

func TestFromFindsTheEngine(t *testing.T) {
	store := &fakeStore{}
	db := From(DB("fake", store, "x"))
	if store.opened != 0 {
		t.Error("From opened the database")
	}
	for range 2 {
		if info, err := db.Info(t.Context()); err != nil || info.Name != "x" {
			t.Fatal(info, err)
		}
	}
	if store.opened != 1 {
		t.Errorf("opened %d times", store.opened)
	}
	store.last.gone = true
	if _, err := db.Info(t.Context()); err != nil || store.opened != 2 {
		t.Errorf("after it was made anew: %v, opened %d times", err, store.opened)
	}
	if _, err := From(DB("fake", store, "none")).Info(t.Context()); !errors.Is(err, couch.ErrNotFound) {
		t.Error(err)
	}
}

// A feed that has told something is not begun again on a new database of the name.
func TestFollowIsNotRepeated(t *testing.T) {
	db := From(DB("fake", &fakeStore{}, "x"))
	told := 0
	for want := 1; want < 3; want++ {
		_, err := db.Changes(t.Context(), couch.ChangesOptions{}, func(*couch.Change) error { told++; return nil })
		if !isGone(err) || told != want {
			t.Errorf("told %d, %v", told, err)
		}
	}
}

func TestStream(t *testing.T) {
	stop := errors.New("stop")
	count := func(n int, end error) *stream[int] {
		return newStream(t.Context(), func(_ context.Context, emit func(int) error) error {
			for i := range n {
				if err := emit(i); err != nil {
					return err
				}
			}
			return end
		})
	}
	for _, settle := range []bool{false, true} {
		s := count(100, stop)
		if settle && s.settle() != nil {
			t.Fatal("failed before its items")
		}
		for i := range 100 {
			if got, err := s.next(); got != i || err != nil {
				t.Fatalf("%d: %d, %v", i, got, err)
			}
		}
		if _, err := s.next(); !errors.Is(err, stop) {
			t.Error(err)
		}
		s.close()
	}
	if err := count(0, stop).settle(); !errors.Is(err, stop) {
		t.Error(err)
	}
	if _, err := count(0, nil).next(); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
	endless := count(1<<40, nil)
	_, _ = endless.next()
	endless.close() // or goleak tells
}

func TestCloseWakesNext(t *testing.T) {
	s := newStream(t.Context(), func(ctx context.Context, _ func(int) error) error {
		<-ctx.Done()
		return ctx.Err()
	})
	done := make(chan error)
	go func() {
		_, err := s.next()
		done <- err
	}()
	s.close()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestContentIsReadOnce(t *testing.T) {
	open := once(io.NopCloser(strings.NewReader("x")))
	if _, err := open(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := open(t.Context()); err == nil {
		t.Error("content was given twice")
	}
}
