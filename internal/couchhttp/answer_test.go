package couchhttp

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"
)

// TestLengthIsTold: who tells the length of an answer depends on its size; somebody must.
func TestLengthIsTold(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.Atoi(r.URL.Path[1:])
		_ = writeJSON(w, http.StatusOK, bytes.Repeat([]byte{'1'}, n-1)) // and a line feed
	}))
	defer s.Close()
	for _, n := range []int{1, 100, smallAnswer - 1, smallAnswer, smallAnswer + 1, 2 * smallAnswer, 1 << 20} {
		for _, method := range []string{"GET", "HEAD"} {
			r, err := http.NewRequest(method, s.URL+"/"+strconv.Itoa(n), nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Accept-Encoding", "identity")
			resp, err := s.Client().Do(r)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.ContentLength != int64(n) {
				t.Errorf("%s of %d bytes tells %d", method, n, resp.ContentLength)
			}
		}
	}
}
