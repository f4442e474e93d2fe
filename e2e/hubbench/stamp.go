package main

import (
	"bytes"
	"strings"
)

// blank stands in a stamp for a number that changes.
const blank = "##########"

// A stamp is a request that was made before, but for the numbers in the ids of
// its documents, which are new each time. The client has the same processors as
// the hub: to make 1,000 documents took it half the time that the hub takes to write them.
type stamp struct {
	request []byte
	at      []int // of the numbers
	last    int
}

func newStamp(request []byte) *stamp {
	s := &stamp{request: request}
	for at := 0; ; at += len(blank) {
		next := bytes.Index(request[at:], []byte(blank))
		if next < 0 {
			return s
		}
		at += next
		s.at = append(s.at, at)
	}
}

// again returns the request with new numbers; it is overwritten by the next call.
func (s *stamp) again() []byte {
	for _, at := range s.at {
		s.last++
		number(s.request[at:at+len(blank)], s.last)
	}
	return s.request
}

// number writes n with leading zeros.
func number(b []byte, n int) {
	for i := len(b) - 1; i >= 0; i-- {
		b[i] = byte('0' + n%10)
		n /= 10
	}
}

// bulkStamp writes batches of documents whose ids begin with prefix.
func bulkStamp(prefix string) *stamp {
	var t strings.Builder
	for i, body := range bodies {
		if i > 0 {
			t.WriteByte(',')
		}
		t.WriteString(`{"_id":"` + prefix + blank + `",` + string(body[1:]))
	}
	return newStamp(request("POST", "/db/_bulk_docs", `{"docs":[`+t.String()+`]}`, basic))
}

// bodies are those of a batch, the same in each.
var bodies = func() [][]byte {
	all := make([][]byte, perBatch)
	for i := range all {
		all[i] = []byte(body(i))
	}
	return all
}()

// ids makes ever new ones that begin with a prefix.
func ids(prefix string) func() string {
	b, n := []byte(prefix+blank), 0
	return func() string {
		n++
		number(b[len(prefix):], n)
		return string(b)
	}
}
