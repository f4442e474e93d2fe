package share

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// An opener's queries and feeds have the bounds that a hub's have, and a peer that leaves a long one
// frees the sharer's processor.
func TestAttackQueries(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.join(nil), w.join(nil)
	for name, o := range map[string]ShareOptions{
		"whole":    {},
		"filtered": {Selector: []byte(`{"_id":{"$gt":""}}`)},
	} {
		s := w.share(alice, name, o)
		r := w.open(bob, s.ID())
		text := strings.Repeat("a", 7000)
		var docs []string
		for i := range 400 {
			docs = append(docs, fmt.Sprintf(`{"_id":"%s-%d","a":"%s"}`, name, i, text))
		}
		if resp, body := r.ask(t, "POST", "/"+name+"/_bulk_docs", `{"docs":[`+strings.Join(docs, ",")+`]}`); resp.StatusCode != 201 {
			t.Fatalf("%s %s", resp.Status, body)
		}
		big := `{"selector":{"a":{"$in":[` + strings.Repeat("1,", 20_000) + `1]}}}`
		for _, path := range []string{"/_find", "/_changes?filter=_selector"} {
			if resp, body := r.ask(t, "POST", "/"+name+path, big); resp.StatusCode != 400 || !strings.Contains(body, "invalid_selector") {
				t.Errorf("%s %s: %s %.200s", name, path, resp.Status, body)
			}
		}
		long := `{"selector":{"a":{"$regex":"` + strings.Repeat("(a?){200}", 11) + `b"}}}` // near the bound on each document
		for _, path := range []string{"/_find", "/_changes?filter=_selector"} {
			ctx, cancel := context.WithCancel(w.ctx)
			req, err := http.NewRequestWithContext(ctx, "POST", r.URL().String()+path, strings.NewReader(long))
			w.must(err)
			req.Header.Set("Content-Type", "application/json")
			left := make(chan struct{})
			go func() {
				defer close(left)
				if resp, err := r.HTTPClient().Do(req); err == nil {
					resp.Body.Close()
				}
			}()
			w.eventually("it runs", func() bool { return s.running(bob.ID()) == 1 })
			cancel()
			<-left
			w.eventually("it has ended", func() bool { return s.running(bob.ID()) == 0 })
		}
	}
}

// running is how many requests of a peer are under way.
func (s *Share) running(peer string) int {
	s.throttles.mu.Lock()
	defer s.throttles.mu.Unlock()
	if p := s.throttles.by[peer]; p != nil {
		return p.running
	}
	return 0
}
