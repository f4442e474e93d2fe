package evil

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/loveseat-db/loveseat/e2e/proc"
	"github.com/loveseat-db/loveseat/localdb"
	"github.com/loveseat-db/loveseat/share"
)

// A sharer is a hostile peer with a share that looks honest, until it is asked.
type sharer struct {
	*peer
	share *share.Share
	store *localdb.Store

	mu      sync.Mutex
	asked   []*http.Request
	refuses bool // answers nothing honestly
}

// An evilAnswer writes what it wants for a request, and returns whether the stream goes on.
type evilAnswer func(w io.Writer, r *http.Request) bool

var sharerNumber atomic.Int64

// sharer publishes a database in the hub, under a name of its own. Requests for the database itself are
// answered as honest sharers do; the others by evil.
func (t *Target) sharer(ctx context.Context, evil evilAnswer) (*sharer, error) {
	s := &sharer{}
	dir, err := os.MkdirTemp(t.Dir, "sharer-")
	if err != nil {
		return nil, err
	}
	if s.store, err = localdb.OpenStore(dir, localdb.Options{}); err != nil {
		return nil, err
	}
	if err = s.store.Create(ctx, "notes"); err == nil {
		s.peer, err = t.join(ctx, "hub", wiring{serve: func(c net.Conn) { s.answer(c, evil) }})
	}
	if err != nil {
		_ = s.store.Close()
		return nil, notMade("joining the hub", err)
	}
	if s.share, err = s.peer.Share(ctx, s.store.DB("notes"), share.ShareOptions{Name: fmt.Sprint("bait ", sharerNumber.Add(1))}); err != nil {
		s.Close()
		return nil, notMade("publishing a share", err)
	}
	return s, nil
}

// Close unshares.
func (s *sharer) Close() {
	s.peer.Close()
	_ = s.store.Close()
}

func (s *sharer) answer(c net.Conn, evil evilAnswer) {
	r := bufio.NewReader(c)
	for {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, req.Body)
		s.mu.Lock()
		s.asked = append(s.asked, req)
		refuses := s.refuses
		s.mu.Unlock()
		if p := strings.TrimSuffix(req.URL.Path, "/"); !refuses && (p == "/notes" || p == "") {
			const info = `{"db_name":"notes","doc_count":1,"doc_del_count":0,"update_seq":"1","purge_seq":"0","instance_start_time":"0","disk_format_version":8,"compact_running":false,"sizes":{"file":1,"external":1,"active":1},"props":{},"cluster":{"n":1,"q":1,"r":1,"w":1},"couchdb":"Welcome","version":"3.5.0","uuid":"x"}`
			_, err = io.WriteString(c, jsonAnswer(info))
		} else if !evil(c, req) {
			return
		}
		if err != nil {
			return
		}
	}
}

// jsonAnswer is an honest answer.
func jsonAnswer(body string) string {
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

// An openedShare is `loveseat open` of a share.
type openedShare struct {
	*proc.Proc
	URL string
}

// opened starts `loveseat open` of a share, as an honest user.
func (t *Target) opened(ctx context.Context, ref string) (*openedShare, error) {
	p, err := proc.StartCmd(t.Loveseat(ctx, "open", with(t.Direct, t.Ann)+"/hub", ref, "--network", "127.0.0.0/8", "--json"))
	if err != nil {
		return nil, notMade("loveseat open", err)
	}
	o := &openedShare{Proc: p}
	limited, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if err := p.Next(limited, "open", o); err != nil {
		p.Kill()
		return nil, notMade("loveseat open", err)
	}
	return o, nil
}

// Close ends it.
func (o *openedShare) Close() { _ = o.Stop() }

// bait opens a hostile share by `loveseat open`, and calls fn with its URL.
func (t *Target) bait(ctx context.Context, evil evilAnswer, fn func(o *openedShare, s *sharer) error) error {
	s, err := t.sharer(ctx, evil)
	if err != nil {
		return err
	}
	defer s.Close()
	o, err := t.opened(ctx, s.share.ID())
	if err != nil {
		return err
	}
	defer o.Close()
	return errors.Join(fn(o, s), t.Loot.Search("what loveseat open printed", o.Stderr()))
}
