package couchhttp

import (
	"net/http"
	"testing"
)

// What browsers tell is believed where it is clear, and taken for the worst where it is not.
func TestFetchHeaders(t *testing.T) {
	for _, tt := range []struct {
		header                    http.Header
		data, ofOthers, navigates bool
	}{
		{http.Header{}, true, false, false},
		{http.Header{"Sec-Fetch-Dest": {"document"}, "Sec-Fetch-Mode": {"navigate"}, "Sec-Fetch-Site": {"none"}}, true, false, true},
		{http.Header{"Sec-Fetch-Dest": {"empty"}, "Sec-Fetch-Mode": {"cors"}, "Sec-Fetch-Site": {"same-origin"}}, true, false, false},
		{http.Header{"Sec-Fetch-Dest": {"empty", "script"}}, false, false, false},
		{http.Header{"Sec-Fetch-Dest": {"Script"}}, false, false, false},
		{http.Header{"Sec-Fetch-Dest": {""}}, true, false, false},
		{http.Header{"Sec-Fetch-Site": {"none", "cross-site"}}, true, true, false},
		{http.Header{"Sec-Fetch-Site": {"same-site"}}, true, true, false},
		{http.Header{"Service-Worker": {""}}, false, false, false},
	} {
		r := &http.Request{Header: tt.header}
		if ForData(r) != tt.data || OfOtherPage(r) != tt.ofOthers || Navigates(r) != tt.navigates {
			t.Errorf("%v: %v %v %v", tt.header, ForData(r), OfOtherPage(r), Navigates(r))
		}
	}
}
