package web

import (
	"compress/gzip"
	"io"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
)

func get(name string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest("GET", "/_utils/"+name, nil)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	Serve(w, r, name)
	return w
}

// TestServe holds with the page built into the tests' binary and without.
func TestServe(t *testing.T) {
	plain := get("")
	text := plain.Body.String()
	if plain.Code != 200 || !strings.HasPrefix(text, "<!doctype html>") || !strings.HasPrefix(plain.Header().Get("Content-Type"), "text/html") {
		t.Fatalf("%d %v %.100s", plain.Code, plain.Header(), text)
	}
	if !Built() && !strings.Contains(text, "make build") {
		t.Error("the page that stands in does not say how to get the full one")
	}
	for name, want := range map[string]string{"Content-Security-Policy": Policy, "X-Content-Type-Options": "nosniff", "Cache-Control": "no-cache", "Content-Encoding": ""} {
		if got := plain.Header().Get(name); got != want {
			t.Errorf("%s: %q", name, got)
		}
	}
	if again := get("", "If-None-Match", plain.Header().Get("ETag")); again.Code != 304 {
		t.Errorf("the same again: %d", again.Code)
	}
	if screen := get("shares/hub/abc"); screen.Body.String() != text {
		t.Error("a screen's path is not answered with the page")
	}
	zipped := get("", "Accept-Encoding", "gzip, br")
	z, err := gzip.NewReader(zipped.Body)
	if err != nil || zipped.Header().Get("Content-Encoding") != "gzip" {
		t.Fatal(err, zipped.Header())
	}
	if b, err := io.ReadAll(z); err != nil || string(b) != text {
		t.Errorf("gzipped it is something else: %v", err)
	}
	if old := get("assets/of-another-build.js"); old.Code != 404 {
		t.Errorf("a file that is not there: %d", old.Code)
	}
	for name := range site().files {
		if strings.HasPrefix(name, "assets/") && !strings.Contains(get(name).Header().Get("Cache-Control"), "immutable") {
			t.Errorf("%s may be kept for ever, but that is not said", name)
		}
	}
}

// TestPolicy: no script made of text, none in the page, no other host.
func TestPolicy(t *testing.T) {
	for _, bad := range []string{"unsafe", "http:", "https:", "*"} {
		if strings.Contains(Policy, bad) {
			t.Errorf("the policy has %q", bad)
		}
	}
	rules := strings.Split(Policy, "; ")
	for _, rule := range []string{"default-src 'none'", "script-src 'self'", "connect-src 'self'", "base-uri 'none'", "form-action 'self'", "frame-ancestors 'none'", "require-trusted-types-for 'script'", "trusted-types 'none'"} {
		if !slices.Contains(rules, rule) {
			t.Errorf("the policy lacks %q", rule)
		}
	}
}
