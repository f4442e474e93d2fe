package localdb

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// awakeNow counts the databases of a store that have a session.
func awakeNow(s *Store) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range s.open {
		d.mu.Lock()
		n += btoi(d.session != nil)
		d.mu.Unlock()
	}
	s.awake.mu.Lock()
	defer s.awake.mu.Unlock()
	if n != len(s.awake.all) {
		return -1
	}
	return n
}

// openFiles counts the descriptors of a directory's files.
func openFiles(t *testing.T, dir string) (n int) {
	links, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("nothing tells which files are open")
	}
	for _, link := range links {
		if to, _ := os.Readlink("/proc/self/fd/" + link.Name()); strings.HasPrefix(to, dir) {
			n++
		}
	}
	return n
}

func TestOnlySomeDatabasesStayOpen(t *testing.T) {
	const many, few = 20, 3
	s, first := openTest(t, Options{MaxOpen: few})
	dbs := []*database{first}
	for i := 1; i < many; i++ {
		name := fmt.Sprint("db", i)
		if err := s.Create(context.Background(), name); err != nil {
			t.Fatal(err)
		}
		dbs = append(dbs, reopen(t, s, name))
	}
	for round := range 3 {
		for i, d := range dbs {
			put(t, d, &couch.Doc{ID: fmt.Sprint("doc", round), Body: body(`{"n":%d}`, i)})
			if n := awakeNow(s); n < 1 || n > few {
				t.Fatalf("%d databases are awake", n)
			}
		}
	}
	if n := openFiles(t, s.dir); n > few*8 {
		t.Errorf("%d files are open", n)
	}
	for i, d := range dbs {
		if doc := get(t, d, "doc1", couch.GetOptions{}); string(doc.Body) != fmt.Sprintf(`{"n":%d}`, i) {
			t.Fatalf("database %d has %s", i, doc.Body)
		}
	}
	// What was used last stays.
	for _, d := range dbs[:few] {
		if d.session != nil {
			t.Errorf("%s is awake", d.name)
		}
	}
	for _, d := range dbs[many-few:] {
		if d.session == nil {
			t.Errorf("%s sleeps", d.name)
		}
	}
}

func TestDatabasesInUseStayOpen(t *testing.T) {
	s, d := openTest(t, Options{MaxOpen: 1})
	if _, err := d.use(); err != nil {
		t.Fatal(err)
	}
	if err := s.Create(context.Background(), "other"); err != nil {
		t.Fatal(err)
	}
	if other := reopen(t, s, "other"); awakeNow(s) != 2 || d.session == nil || other.session == nil {
		t.Fatalf("%d are awake", awakeNow(s))
	}
	d.release()
	if err := s.Create(context.Background(), "third"); err != nil {
		t.Fatal(err)
	}
	if awakeNow(s) != 1 || d.session != nil {
		t.Fatalf("%d are awake", awakeNow(s))
	}
}

func TestFeedOfSleepingDatabase(t *testing.T) {
	s, d := openTest(t, Options{MaxOpen: 1})
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	heard, done := make(chan string), make(chan error, 1)
	go func() {
		_, err := d.Changes(ctx, couch.ChangesOptions{Feed: couch.FeedContinuous}, func(c *couch.Change) error {
			heard <- c.ID
			return nil
		})
		done <- err
	}()
	put(t, d, &couch.Doc{ID: "first"})
	if got := <-heard; got != "first" {
		t.Fatal(got)
	}
	if err := s.Create(ctx, "other"); err != nil {
		t.Fatal(err)
	}
	for d.sleep(); awakeNow(s) != 1 && ctx.Err() == nil; d.sleep() { // the feed's last look may be under way
		time.Sleep(time.Millisecond)
	}
	put(t, d, &couch.Doc{ID: "second"})
	if got := <-heard; got != "second" {
		t.Fatal(got)
	}
	// Another process, in effect.
	d.sleep()
	other, err := OpenStore(s.dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	put(t, reopen(t, other, "test"), &couch.Doc{ID: "third"})
	if got := <-heard; got != "third" {
		t.Fatal(got)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

func TestSleepingDatabaseIsDestroyed(t *testing.T) {
	s, d := openTest(t, Options{})
	put(t, d, &couch.Doc{ID: "a"})
	d.sleep()
	other, err := OpenStore(s.dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := other.Destroy(context.Background(), "test"); err != nil {
		t.Fatal(err)
	}
	_, err = d.Get(context.Background(), "a", couch.GetOptions{})
	wantStatus(t, err, 404, "not_found")
	if err := other.Create(context.Background(), "test"); err != nil {
		t.Fatal(err)
	}
	_, err = d.BulkDocs(context.Background(), []*couch.Doc{{ID: "b"}}, couch.WriteOptions{})
	wantStatus(t, err, 404, "not_found")
	put(t, reopen(t, s, "test"), &couch.Doc{ID: "c"})
}

// TestSleepAndUseRace puts databases to sleep while they are used from all sides.
func TestSleepAndUseRace(t *testing.T) {
	s, _ := openTest(t, Options{MaxOpen: 2})
	var dbs []*database
	for i := range 6 {
		name := fmt.Sprint("db", i)
		if err := s.Create(context.Background(), name); err != nil {
			t.Fatal(err)
		}
		dbs = append(dbs, reopen(t, s, name))
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg, feeds sync.WaitGroup
	const writers, each = 3, 25
	for _, d := range dbs {
		for w := range writers {
			wg.Go(func() {
				for i := range each {
					doc := &couch.Doc{ID: fmt.Sprint(w, "-", i)}
					results, err := d.BulkDocs(ctx, []*couch.Doc{doc}, couch.WriteOptions{})
					if err == nil {
						_, err = d.Get(ctx, doc.ID, couch.GetOptions{})
					}
					if err = errors.Join(err, asError(results)); err != nil {
						t.Error(err)
						return
					}
					if i%10 == 0 {
						if err := d.Compact(ctx); err != nil {
							t.Error(err)
						}
					}
					d.sleep()
				}
			})
		}
		feeds.Go(func() {
			n := 0
			end := errors.New("end")
			_, err := d.Changes(ctx, couch.ChangesOptions{Feed: couch.FeedContinuous}, func(*couch.Change) error {
				if n++; n == writers*each {
					return end
				}
				return nil
			})
			if !errors.Is(err, end) {
				t.Errorf("after %d changes: %v", n, err)
			}
		})
	}
	wg.Wait()
	feeds.Wait()
	cancel()
	for _, d := range dbs {
		checkInvariants(t, d)
	}
}
