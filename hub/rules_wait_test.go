package hub

import (
	"bufio"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/loveseat-db/loveseat/internal/hubdoc"
)

// TestFeedsThatWaitMissNothing: signals come once and in order to the one they are to, one by one and many at
// once, more than a feed keeps that has not been served yet.
func TestFeedsThatWaitMissNothing(t *testing.T) {
	all := []string{Anybody}
	s := startUsers(t, Config{Service: Service{Databases: []Database{{Name: "hub", List: all, Publish: all, Open: all, Signal: all}}}})
	ann, bob, eve := newDevice(t), newDevice(t), newDevice(t)
	feeds := map[string]*bufio.Scanner{}
	for _, query := range []string{"", "&style=all_docs", "&include_docs=true", "&conflicts=true&include_docs=true"} {
		lines, closer := s.open("/hub/_changes?feed=continuous&since=now&heartbeat=1000"+query, s.proof(bob, "GET", "/hub/_changes", hubdoc.ToRead))
		defer closer.Close()
		feeds[query] = lines
	}
	for round, many := range []int{1, 3, 3 * maxHeard, 1, maxHeard, 2} {
		var docs, ids []string
		for i := range many {
			id, body := ann.signal(t, bob, func(sig *hubdoc.Signal) { sig.Seq = uint64(i) })
			ids, docs = append(ids, id), append(docs, fmt.Sprintf(`{"_id":%q,%s`, id, body[1:]))
			id, body = ann.signal(t, eve, nil)
			docs = append(docs, fmt.Sprintf(`{"_id":%q,%s`, id, body[1:]))
		}
		s.as("", "POST", "/hub/_bulk_docs", `{"docs":[`+strings.Join(docs, ",")+`]}`, 201)
		for query, lines := range feeds {
			var got []string
			for range many {
				var c struct {
					ID  string
					Doc json.RawMessage
				}
				if err := json.Unmarshal([]byte(next(t, lines)), &c); err != nil {
					t.Fatal(err)
				}
				if strings.Contains(query, "include_docs") != (c.Doc != nil) {
					t.Errorf("%s: the document is %.40s", query, c.Doc)
				}
				got = append(got, c.ID)
			}
			if !slices.Equal(got, ids) {
				t.Errorf("round %d, %q: %v, want %v", round, query, got, ids)
			}
		}
	}
	id, body := bob.share(t, nil)
	s.as("", "PUT", "/hub/"+id, body, 201)
	for query, lines := range feeds {
		if line := next(t, lines); !strings.Contains(line, id) || strings.Count(line, `"rev"`) != 1 {
			t.Errorf("%q: %s", query, line)
		}
	}
}
