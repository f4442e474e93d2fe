package couchhttp

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// serve returns a client of a server that answers as h does.

func serve(t *testing.T, o ClientOptions, h http.HandlerFunc) *Client {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	base, err := url.Parse(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	base.User = url.UserPassword("ann", "secret")
	c := NewClient(base, nil, o)
	t.Cleanup(func() { c.Close() })
	return c
}

// FuzzJSONStream: whatever comes in whatever pieces, values are what encoding/json sees, and nothing panics.

func TestPathsAreEscaped(t *testing.T) {
	for id, want := range map[string]string{
		"plain": "plain", "a/b": "a%2Fb", "_design/x/y": "_design/x%2Fy", "a+b c": "a%2Bb%20c", "..": "%2E%2E", "ü?#%": "%C3%BC%3F%23%25",
	} {
		if got := escapeID(id); got != want {
			t.Errorf("%s: %s, want %s", id, got, want)
		}
	}
	var path string
	c := serve(t, ClientOptions{}, func(w http.ResponseWriter, r *http.Request) {
		path = r.URL.EscapedPath()
		io.WriteString(w, "data")
	})
	if _, err := c.DB("a/b").Attachment(t.Context(), "_design/d", "css/x.css", couch.Rev{}, 0); err != nil {
		t.Fatal(err)
	}
	if path != "/a%2Fb/_design/d/css%2Fx.css" {
		t.Error(path)
	}
}

func TestErrors(t *testing.T) {
	for _, tt := range []struct {
		status       int
		body, header string
		code, reason string
		after        time.Duration
	}{
		{404, `{"error":"not_found","reason":"deleted"}`, "", "not_found", "deleted", 0},
		{502, "<html>Bad", "", "bad_gateway", "<html>Bad", 0},
		{429, "", "7", "too_many_requests", "", 7 * time.Second},
		{500, `{"reason":"x"}`, "", "internal_server_error", `{"reason":"x"}`, 0},
	} {
		c := serve(t, ClientOptions{}, func(w http.ResponseWriter, r *http.Request) {
			if tt.header != "" {
				w.Header().Set("Retry-After", tt.header)
			}
			w.WriteHeader(tt.status)
			io.WriteString(w, tt.body)
		})
		_, err := c.DB("db").Get(context.Background(), "x", couch.GetOptions{})
		var e *couch.Error
		if !errors.As(err, &e) || e.Status != tt.status || e.Code != tt.code || e.Reason != tt.reason || couch.RetryAfter(err) != tt.after {
			t.Errorf("%d %s: %#v", tt.status, tt.body, err)
		}
	}
}

func TestCredentialsStayHidden(t *testing.T) {
	var user, password string
	c := serve(t, ClientOptions{}, func(w http.ResponseWriter, r *http.Request) {
		user, password, _ = r.BasicAuth()
		io.WriteString(w, `{"db_name":"db","update_seq":5}`)
	})
	info, err := c.DB("db").Info(context.Background())
	if err != nil || user != "ann" || password != "secret" {
		t.Fatal(err, user, password)
	}
	if info.UpdateSeq != "5" || !strings.HasPrefix(info.UUID, "http://127.0.0.1") || strings.Contains(info.UUID, "secret") {
		t.Errorf("%+v", info)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := c.DB("db").Info(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	c.base = strings.Replace(c.base, "127.0.0.1:", "127.0.0.1:1", 1)
	if _, err := c.DB("db").Info(context.Background()); err == nil || strings.Contains(err.Error(), "secret") {
		t.Error(err)
	}
}

func rev(s string) couch.Rev {
	r, err := couch.ParseRev(s)
	if err != nil {
		panic(err)
	}
	return r
}
