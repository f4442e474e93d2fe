package localdb

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
)

const (
	childEnv = "LOCALDB_TEST_CHILD" // which of children to run
	dirEnv   = "LOCALDB_TEST_DIR"
)

// children are what tests run in other processes, by name. They print lines
// that their tests read.
var children = map[string]func(dir string){
	"crash":   crashChild,
	"tidy":    tidyChild,
	"create":  createChild,
	"count":   countChild,
	"destroy": destroyChild,
	"bulk":    bulkChild,
}

// A child is another process at work on a test's directory.
type child struct {
	cmd   *exec.Cmd
	lines chan string // what it prints, closed at its end
}

func startChild(t testing.TB, part, dir string) *child {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+part, dirEnv+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	c := &child{cmd, make(chan string, 1024)}
	go func() {
		defer close(c.lines)
		for in := bufio.NewScanner(out); in.Scan(); {
			c.lines <- in.Text()
		}
	}()
	t.Cleanup(func() { c.kill() })
	return c
}

// kill ends the process with SIGKILL and returns what it had still printed.
func (c *child) kill() []string {
	_ = c.cmd.Process.Kill()
	return c.wait()
}

// wait returns the lines until the process has ended.
func (c *child) wait() []string {
	var rest []string
	for line := range c.lines {
		rest = append(rest, line)
	}
	_ = c.cmd.Wait()
	return rest
}

// must is for children, which have no testing.T.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func openChild(dir string) (*Store, *database) {
	s := must(OpenStore(dir, Options{InlineAttachments: 1000}))
	return s, must(s.Open(context.Background(), "test")).(*database)
}

func createChild(dir string) {
	s := must(OpenStore(dir, Options{}))
	err := s.Create(context.Background(), "test")
	db := must(s.Open(context.Background(), "test"))
	rev := must(db.BulkDocs(context.Background(), []*couch.Doc{{ID: fmt.Sprint("by-", os.Getpid())}}, couch.WriteOptions{}))
	must(0, asError(rev))
	fmt.Println(s.UUID(), db.(*database).uuid, err == nil)
	must(0, s.Close())
}

func TestProcessesCreateAtOnce(t *testing.T) {
	dir := t.TempDir() + "/new"
	var all []*child
	for range 4 {
		all = append(all, startChild(t, "create", dir))
	}
	created, identity := 0, map[string]bool{}
	for _, c := range all {
		lines := c.wait()
		if len(lines) != 1 {
			t.Fatalf("a child said %q", lines)
		}
		f := strings.Fields(lines[0])
		identity[f[0]+f[1]] = true
		if f[2] == "true" {
			created++
		}
	}
	if created != 1 || len(identity) != 1 {
		t.Errorf("%d processes created it, identities %v", created, identity)
	}
	s, err := OpenStore(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if info, err := reopen(t, s, "test").Info(context.Background()); err != nil || info.DocCount != int64(len(all)) {
		t.Errorf("%+v, %v", info, err)
	}
}

const countTo = 100

// countChild adds one to a counter that others add to, too.
func countChild(dir string) {
	s, d := openChild(dir)
	for range countTo {
		must(0, addOne(d))
	}
	must(0, s.Close())
}

func addOne(d *database) error {
	ctx := context.Background()
	for {
		doc, err := d.Get(ctx, "counter", couch.GetOptions{})
		if err != nil {
			return err
		}
		var v struct{ N int }
		if err := json.Unmarshal(doc.Body, &v); err != nil {
			return err
		}
		doc.Body = body(`{"n":%d}`, v.N+1)
		results, err := d.BulkDocs(ctx, []*couch.Doc{doc}, couch.WriteOptions{})
		if err != nil || results[0].Err == nil {
			return err
		}
		if !errors.Is(results[0].Err, couch.ErrConflict) {
			return results[0].Err
		}
	}
}

func TestTwoProcessesWriteOneDatabase(t *testing.T) {
	s, d := openTest(t, Options{})
	put(t, d, &couch.Doc{ID: "counter", Body: body(`{"n":0}`)})
	c := startChild(t, "count", s.dir)

	// The feed hears the other process's writes, too, up to the last.
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	done := make(chan error, 1)
	last := couch.Seq("")
	end := errors.New("end")
	go func() {
		_, err := d.Changes(ctx, couch.ChangesOptions{Feed: couch.FeedContinuous, IncludeDocs: true}, func(c *couch.Change) error {
			if last = c.Seq; string(c.Doc.Body) == fmt.Sprintf(`{"n":%d}`, 2*countTo) {
				return end
			}
			return nil
		})
		done <- err
	}()
	for range countTo {
		if err := addOne(d); err != nil {
			t.Fatal(err)
		}
	}
	c.wait()
	if err := <-done; err != end {
		t.Errorf("the feed ended at %s: %v", last, err)
	}
	if got := string(get(t, d, "counter", couch.GetOptions{}).Body); got != fmt.Sprintf(`{"n":%d}`, 2*countTo) {
		t.Errorf("counted %s", got)
	}
	if want := d.formatSeq(2*countTo + 1); last != want {
		t.Errorf("the last sequence is %s, want %s", last, want)
	}
}

func destroyChild(dir string) {
	s := must(OpenStore(dir, Options{}))
	must(0, s.Destroy(context.Background(), "test"))
	must(0, s.Create(context.Background(), "test"))
	must(0, s.Close())
}

func TestAnotherProcessDestroys(t *testing.T) {
	s, d := openTest(t, Options{})
	put(t, d, &couch.Doc{ID: "a"})
	feed := make(chan error, 1)
	go func() {
		_, err := d.Changes(context.Background(), couch.ChangesOptions{Feed: couch.FeedContinuous}, func(*couch.Change) error { return nil })
		feed <- err
	}()
	startChild(t, "destroy", s.dir).wait()
	_, err := d.BulkDocs(context.Background(), []*couch.Doc{{ID: "b"}}, couch.WriteOptions{})
	wantStatus(t, err, 404, "not_found")
	wantStatus(t, <-feed, 404, "not_found")
	again := reopen(t, s, "test")
	if again == d || again.uuid == d.uuid {
		t.Fatal("the database created anew is the old one")
	}
	put(t, again, &couch.Doc{ID: "c"})
	if list, _ := changes(t, again, couch.ChangesOptions{Since: d.formatSeq(1)}); len(list) != 1 {
		t.Fatalf("a sequence of the old database was taken for one of the new: %v", list)
	}
}

// bulkChild imports for ever, four at once.
func bulkChild(dir string) {
	_, d := openChild(dir)
	for worker := range 4 {
		go func() {
			for i := 0; ; i++ {
				docs := benchDocs((worker*1000+i)*500, 500)
				must(0, asError(must(d.BulkDocs(context.Background(), docs, couch.WriteOptions{}))))
				fmt.Println("written")
			}
		}()
	}
	select {}
}

func TestBusyProcessLetsOthersWrite(t *testing.T) {
	s, d := openTest(t, Options{})
	c := startChild(t, "bulk", s.dir)
	<-c.lines // it has begun
	go func() {
		for range c.lines {
		}
	}()
	slowest := time.Duration(0)
	for i := range 50 {
		start := time.Now()
		put(t, d, &couch.Doc{ID: fmt.Sprint("mine", i)})
		slowest = max(slowest, time.Since(start))
	}
	t.Log("the slowest of 50 writes took", slowest)
	if slowest > 10*time.Second {
		t.Errorf("the slowest write took %v", slowest)
	}
}
