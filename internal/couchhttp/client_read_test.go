package couchhttp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
)

func TestLongpollIsAskedAgain(t *testing.T) {
	var calls atomic.Int32
	c := serve(t, ClientOptions{}, func(w http.ResponseWriter, r *http.Request) {
		if calls.Add(1) == 1 {
			io.WriteString(w, `{"results":[],"last_seq":"3-x","pending":0}`)
			return
		}
		if got := r.URL.Query().Get("since"); got != "3-x" {
			t.Errorf("since %q", got)
		}
		io.WriteString(w, `{"results":[{"seq":"4-y","id":"a","changes":[{"rev":"1-a"},{"rev":"1-b"}],"deleted":true}],"last_seq":"4-y"}`)
	})
	var got []*couch.Change
	last, err := c.DB("db").Changes(context.Background(), couch.ChangesOptions{Feed: couch.FeedLongpoll, Since: "2"}, func(c *couch.Change) error {
		got = append(got, c)
		return nil
	})
	if err != nil || last.LastSeq != "4-y" || len(got) != 1 || len(got[0].Revs) != 2 || !got[0].Deleted || got[0].Seq != "4-y" {
		t.Fatalf("%+v %v %v", last, got, err)
	}
}

func TestASilentFeedIsAnError(t *testing.T) {
	c := serve(t, ClientOptions{Heartbeat: 300 * time.Millisecond}, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("heartbeat") != "300" {
			t.Error(r.URL)
		}
		io.WriteString(w, "\n\n{\"seq\":1,\"id\":\"a\",\"changes\":[{\"rev\":\"1-a\"}]}\n\n")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	rows := 0
	last, err := c.DB("db").Changes(context.Background(), couch.ChangesOptions{Feed: couch.FeedContinuous}, func(*couch.Change) error {
		rows++
		time.Sleep(time.Second) // slower than three heartbeats, which is not the server's silence
		return nil
	})
	if !errors.Is(err, ErrSilent) || rows != 1 || last.LastSeq != "1" {
		t.Error(rows, last, err)
	}
}

func TestFeedEndsAfterItsTimeout(t *testing.T) {
	c := serve(t, ClientOptions{Heartbeat: 10 * time.Second}, func(w http.ResponseWriter, r *http.Request) { // heartbeats come more often
		for r.Context().Err() == nil {
			io.WriteString(w, "\n")
			w.(http.Flusher).Flush()
			time.Sleep(10 * time.Millisecond)
		}
	})
	last, err := c.DB("db").Changes(context.Background(), couch.ChangesOptions{Feed: couch.FeedLongpoll, Since: "9", Timeout: 60 * time.Millisecond}, nil)
	if err != nil || last.LastSeq != "9" {
		t.Error(last, err)
	}
}

func TestBulkGetOfServersThatGroupRows(t *testing.T) {
	c := serve(t, ClientOptions{}, func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, `{"results":[
			{"id":"a","docs":[{"ok":{"_id":"a","_rev":"2-x","n":1}},{"error":{"id":"a","rev":"1-y","error":"not_found","reason":"missing"}}]},
			{"id":"b","docs":[{"ok":{"_id":"b","_rev":"1-z","_what":1}}]},
			{"id":"c","docs":[{"ok":{"_id":"c","_rev":"1-p"}},{"ok":{"_id":"c","_rev":"1-q"}}]}]}`)
	})
	refs := []couch.DocRef{{ID: "a", Rev: rev("2-x")}, {ID: "a", Rev: rev("1-y")}, {ID: "b", Rev: rev("1-z")}, {ID: "c"}}
	var got []string
	err := c.DB("db").BulkGet(context.Background(), refs, couch.GetOptions{Revs: true}, func(r couch.BulkGetResult) error {
		got = append(got, fmt.Sprint(r.ID, " ", r.Rev, " ", r.Doc != nil, " ", r.Err != nil))
		return nil
	})
	want := "[a 2-x true false a 1-y false true b 1-z false true c  true false c  true false]" // revisions as asked
	if err != nil || fmt.Sprint(got) != want {
		t.Errorf("%v %v", got, err)
	}
}

func TestBulkGetFallsBackToOpenRevs(t *testing.T) {
	c := serve(t, ClientOptions{}, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == "POST":
			w.WriteHeader(405)
			io.WriteString(w, `{"error":"method_not_allowed","reason":"Only GET"}`)
		case r.URL.Path == "/db/gone":
			w.WriteHeader(404)
			io.WriteString(w, `{"error":"not_found","reason":"missing"}`)
		default:
			if got := r.URL.Query().Get("open_revs"); got != `["1-a"]` {
				t.Errorf("open_revs %s", got)
			}
			io.WriteString(w, `[{"ok":{"_id":"x","_rev":"1-a","_revisions":{"start":1,"ids":["a"]}}}]`)
		}
	})
	var got []couch.BulkGetResult
	refs := []couch.DocRef{{ID: "x", Rev: rev("1-a")}, {ID: "gone", Rev: rev("1-b")}}
	err := c.DB("db").BulkGet(context.Background(), refs, couch.GetOptions{Revs: true, Latest: true}, func(r couch.BulkGetResult) error {
		got = append(got, r)
		return nil
	})
	if err != nil || len(got) != 2 || got[0].Doc == nil || !errors.Is(got[1].Err, couch.ErrNotFound) {
		t.Errorf("%+v %v", got, err)
	}
}

func TestBulkGetReadsSmallAttachmentsInASecondCall(t *testing.T) {
	var calls []string
	c := serve(t, ClientOptions{}, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		calls = append(calls, r.URL.RawQuery+" "+string(body))
		stub := `{"content_type":"a/b","digest":"md5-x","length":%d,"revpos":%d,"stub":true}`
		if r.URL.Query().Get("attachments") == "true" {
			io.WriteString(w, `{"results":[{"id":"new","docs":[{"ok":{"_id":"new","_rev":"1-a","_attachments":{"f":{"content_type":"a/b","revpos":1,"data":"aGk="}}}}]}]}`)
			return
		}
		fmt.Fprintf(w, `{"results":[
			{"id":"none","docs":[{"ok":{"_id":"none","_rev":"1-a"}}]},
			{"id":"new","docs":[{"ok":{"_id":"new","_rev":"1-a","_attachments":{"f":`+stub+`}}}]},
			{"id":"big","docs":[{"ok":{"_id":"big","_rev":"1-a","_attachments":{"f":`+stub+`}}}]},
			{"id":"old","docs":[{"ok":{"_id":"old","_rev":"2-a","_revisions":{"start":2,"ids":["a","b"]},"_attachments":{"f":`+stub+`}}}]}]}`,
			2, 1, 5000, 1, 2, 1)
	})
	refs := []couch.DocRef{{ID: "none", Rev: rev("1-a")}, {ID: "new", Rev: rev("1-a")}, {ID: "big", Rev: rev("1-a")}, {ID: "old", Rev: rev("2-a"), AttsSince: []couch.Rev{rev("1-b")}}}
	var got []string
	o := couch.GetOptions{Revs: true, Latest: true, Attachments: true, MaxInlineSize: 100}
	err := c.DB("db").BulkGet(context.Background(), refs, o, func(r couch.BulkGetResult) error {
		s := r.ID
		for _, a := range r.Doc.Attachments {
			s += ":" + string(a.Data)
		}
		got = append(got, s)
		return nil
	})
	if err != nil || fmt.Sprint(got) != "[none new:hi big: old:]" || len(calls) != 2 {
		t.Errorf("%v %v %q", got, err, calls)
	}
}

func TestAttachmentFromAnOffset(t *testing.T) {
	content := strings.Repeat("abcdefghij", 1000)
	for _, ranges := range []bool{true, false} {
		c := serve(t, ClientOptions{}, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("ETag", `"md5-x"`)
			w.Header().Set("Content-Type", "text/x")
			if ranges {
				http.ServeContent(w, r, "", time.Time{}, strings.NewReader(content))
			} else {
				io.WriteString(w, content)
			}
		})
		a, err := c.DB("db").Attachment(context.Background(), "x", "f", rev("1-a"), 9995)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			r, err := a.Open(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(r)
			if r.Close(); string(got) != "fghij" || err != nil || a.Digest != "md5-x" || a.ContentType != "text/x" || ranges && a.Length != 10000 {
				t.Errorf("ranges %v: %q %v %+v", ranges, got, err, a)
			}
		}
	}
}
