package replicate_test

import (
	"encoding/json"
	"testing"

	"github.com/loveseat-db/loveseat/replicate"
)

// The same selection, however it is written, is the same replication; another one is another.
func TestTheReplicationID(t *testing.T) {
	all := func(string, *replicate.Document) bool { return true }
	keep := func(d *replicate.Document) (*replicate.Document, error) { return d, nil }
	selector := func(s string) replicate.Options { return replicate.Options{Selector: json.RawMessage(s)} }
	same := [][]replicate.Options{
		{{}, {Live: false, BatchSize: 3, InFlight: 1, Resolver: winner}},
		{selector(`{"a":1,"b":{"$gt":2.50}}`), selector(` { "b" : {"$gt":2.50}, "a":1 } `)},
		{selector(`{"a":1}`)},
		{{DocIDs: []string{"doc-00001", "doc-00002"}}, {DocIDs: []string{"doc-00002", "doc-00001", "doc-00002"}}},
		{{DocIDs: []string{}}},
		{{DesignFilter: "a/b"}},
		{{DesignFilter: "a/b", QueryParams: map[string]string{"x": "1", "y": "2"}}, {DesignFilter: "a/b", QueryParams: map[string]string{"y": "2", "x": "1"}}},
		{{DesignFilter: "a/b", QueryParams: map[string]string{"x": "1", "y": "3"}}},
		{{WinnersOnly: true}},
		{{Since: "1"}},
		{{Filter: all, FuncsVersion: "1"}, {Filter: all, FuncsVersion: "1"}},
		{{Filter: all, FuncsVersion: "2"}},
		{{Push: keep, FuncsVersion: "1"}, {Push: keep, Pull: keep, FuncsVersion: "1"}}, // a run only pushes
		{{Push: keep, Filter: all, FuncsVersion: "1"}},
	}
	a, b := newMemory("a"), newMemory("b")
	fill(a, 3)
	for i, group := range same {
		for _, o := range group {
			mustRun(t, a, b, o)
		}
		if len(b.log) > i+1 {
			t.Fatalf("group %d has more than one id", i)
		}
	}
	if want := len(same); len(b.log) != want {
		t.Errorf("%d ids, want %d", len(b.log), want)
	}
}
