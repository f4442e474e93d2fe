package e2e

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/loveseat-db/loveseat/e2e/proc"
)

// attachmentSize is how long a large attachment is, in bytes: 1 GiB in `make soak`, otherwise 256 MiB, or as
// LOVESEAT_ATTACHMENT_MIB says.
func attachmentSize(t *testing.T) int64 {
	mib := 256
	if os.Getenv("LOVESEAT_SOAK") != "" {
		mib = 1024
	}
	if s := os.Getenv("LOVESEAT_ATTACHMENT_MIB"); s != "" {
		var err error
		if mib, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	return int64(mib) << 20
}

const (
	maxRSS    = 100 << 20 // of either process
	maxResent = 8 << 20   // after a cut
)

// TestLargeAttachmentFromServer: a process pulls a large attachment from a hub
// over a connection that is cut at random bytes, and pushes it to another one. Nobody holds it in memory, and
// little is sent twice.
func TestLargeAttachmentFromServer(t *testing.T) {
	w := newWorldFor(t, 10*time.Minute)
	size := attachmentSize(t)
	hub := w.hub("hub")
	want := w.upload(hub.url+"/big", size)
	cut := w.cutting(hub.addr(), size)
	pull := w.start(w.command("loveseat", "sync", w.path("bob/big"), "http://"+cut.addr+"/big", "--pull", "--json"))
	puller, server := w.memory("the puller", pull), w.memory("the hub", hub.Proc)
	var c complete
	w.nextIn(5*time.Minute, pull, "complete", &c)
	w.ok(pull.Wait())
	if c.Pulled.Written != 1 || c.Pulled.Failed != 0 || cut.left.Load() > 0 {
		t.Fatalf("%+v, %d cuts left", c, cut.left.Load())
	}
	again := cut.sent.Load() - size
	t.Logf("pull: %d MiB in %.1f s, cut %d times, %.1f MiB sent again (%.1f for each cut), RSS of the puller %d MiB, of the hub %d MiB", size>>20, c.Seconds, cut.cuts,
		float64(again)/(1<<20), float64(again)/(1<<20)/float64(cut.cuts), puller()>>20, server()>>20)
	if again > maxResent*int64(cut.cuts) {
		t.Errorf("%d bytes were sent again", again)
	}

	other := w.hub("other")
	push := w.start(w.command("loveseat", "sync", w.path("bob/big"), other.url+"/big", "--push", "--json"))
	pusher, server := w.memory("the pusher", push), w.memory("the other hub", other.Proc)
	w.nextIn(5*time.Minute, push, "complete", &c)
	t.Logf("push: %.1f s, RSS of the pusher %d MiB, of the hub %d MiB", c.Seconds, pusher()>>20, server()>>20)
	w.ok(push.Wait())
	if got := w.download(other.url + "/big/doc/file"); got != want {
		t.Error("what arrived is not what was sent")
	}
}

// TestLargeAttachmentFromPeer: a large attachment crosses from process to process
// over WebRTC, while the sharer is killed at a random byte and started again.
func TestLargeAttachmentFromPeer(t *testing.T) {
	w := newWorldFor(t, 10*time.Minute)
	size := attachmentSize(t)
	hub := w.hub("hub")
	want := w.upload(hub.url+"/big", size)
	w.loveseat("sync", w.path("alice/big"), hub.url+"/big", "--pull", "--json")
	s := w.share(hub.db, "alice/big")
	pull := w.start(w.command("loveseat", "sync", w.path("bob/big"), s.Link, "--pull", "--json"))
	puller, first := w.memory("the puller", pull), w.memory("the first sharer", s.Proc)
	w.moved(pull, size/8+rand.Int64N(size/4))
	s.Kill()
	w.nextIn(time.Minute, pull, "retrying", nil)
	s = w.share(hub.db, "alice/big")
	second := w.memory("the second sharer", s.Proc)
	var c struct {
		Pulled struct {
			Written int64 `json:"docs_written"`
			Failed  int64 `json:"doc_write_failures"`
			Read    int64 `json:"bytes_read"`
		}
		Route   string
		Seconds float64
	}
	w.nextIn(5*time.Minute, pull, "complete", &c)
	again := c.Pulled.Read - size
	t.Logf("%d MiB in %.1f s (%s), %.1f MiB came again, RSS of the puller %d MiB, of the sharers %d and %d MiB", size>>20, c.Seconds, c.Route,
		float64(again)/(1<<20), puller()>>20, first()>>20, second()>>20)
	w.ok(pull.Wait())
	if c.Pulled.Written != 1 || c.Pulled.Failed != 0 || again > maxResent || c.Route != "host" {
		t.Errorf("%+v, %d bytes came again", c, again)
	}
	w.loveseat("sync", w.path("bob/big"), hub.url+"/back", "--push", "--json")
	if got := w.download(hub.url + "/back/doc/file"); got != want {
		t.Error("what arrived is not what was sent")
	}
}

// moved waits until a sync has got so many bytes from its source.
func (w *world) moved(p *proc.Proc, bytes int64) {
	w.Helper()
	for {
		var e struct{ Bytes int64 }
		w.nextIn(2*time.Minute, p, "progress", &e)
		if e.Bytes >= bytes {
			return
		}
	}
}

func (w *world) nextIn(limit time.Duration, p *proc.Proc, event string, out any) {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, limit)
	defer cancel()
	w.ok(p.Next(ctx, event, out))
}

// memory follows the most memory that a process has had (VmHWM), which must stay under maxRSS; the returned
// function tells it.
func (w *world) memory(who string, p *proc.Proc) (peak func() int64) {
	w.Helper()
	var most atomic.Int64
	look := func() bool {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Pid()))
		_, rest, ok := strings.Cut(string(status), "VmHWM:")
		if err != nil || !ok {
			return false // it has ended
		}
		kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
		if err == nil {
			most.Store(kib << 10)
		}
		return err == nil
	}
	if !look() {
		w.Skip("there is no /proc to read the memory of a process from")
	}
	ctx, cancel := context.WithCancel(w.ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil && look() {
			select {
			case <-time.After(20 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	}()
	w.Cleanup(func() {
		cancel()
		<-done
		if most.Load() > maxRSS {
			w.Errorf("%s has had %d MiB of memory", who, most.Load()>>20)
		}
	})
	return most.Load
}

// upload makes a database with a document with an attachment "file" of random bytes, and returns their hash.
func (w *world) upload(db string, size int64) string {
	w.Helper()
	ask[any](w, http.MethodPut, db, "")
	h := sha256.New()
	body := io.TeeReader(io.LimitReader(rand.NewChaCha8([32]byte{1}), size), h)
	r, err := http.NewRequestWithContext(w.ctx, http.MethodPut, db+"/doc/file", body)
	w.ok(err)
	r.ContentLength = size
	r.Header.Set("Content-Type", "application/octet-stream")
	resp, err := http.DefaultClient.Do(r)
	w.ok(err)
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusCreated {
		b, _ := io.ReadAll(resp.Body)
		w.Fatalf("%s: %s", resp.Status, b)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// download is the hash of what a URL gives.
func (w *world) download(url string) string {
	w.Helper()
	r, err := http.NewRequestWithContext(w.ctx, http.MethodGet, url, nil)
	w.ok(err)
	resp, err := http.DefaultClient.Do(r)
	w.ok(err)
	defer resp.Body.Close()
	h := sha256.New()
	_, err = io.Copy(h, resp.Body)
	w.ok(err)
	return hex.EncodeToString(h.Sum(nil))
}

// A cutter passes connections on, and cuts each of some after a random number of bytes.
type cutter struct {
	addr string
	cuts int
	left atomic.Int32
	sent atomic.Int64 // bytes from the server
}

// cutting is a cutter in front of a server from which about size bytes come.
func (w *world) cutting(server string, size int64) *cutter {
	w.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	w.ok(err)
	c := &cutter{addr: l.Addr().String(), cuts: 3}
	c.left.Store(int32(c.cuts))
	var all sync.WaitGroup
	ctx, cancel := context.WithCancel(w.ctx)
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { c.pass(ctx, conn, server, size/8+rand.Int64N(size/8)) })
		}
	})
	w.Cleanup(func() {
		cancel()
		l.Close()
		all.Wait()
	})
	return c
}

// pass joins two connections until one ends, or is cut after limit bytes from the server.
func (c *cutter) pass(ctx context.Context, client net.Conn, addr string, limit int64) {
	defer client.Close()
	server, err := net.Dial("tcp", addr)
	if err != nil {
		return
	}
	defer server.Close()
	stop := context.AfterFunc(ctx, func() { client.Close(); server.Close() })
	defer stop()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(server, client)
		server.Close()
	}()
	out := io.MultiWriter(client, countBytes{&c.sent})
	_, err = io.CopyN(out, server, limit)
	if err == nil && c.left.Add(-1) < 0 {
		_, _ = io.Copy(out, server)
	}
	client.Close()
	server.Close()
	<-done
}

type countBytes struct{ n *atomic.Int64 }

func (c countBytes) Write(p []byte) (int, error) {
	c.n.Add(int64(len(p)))
	return len(p), nil
}
