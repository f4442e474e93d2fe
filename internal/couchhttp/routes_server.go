package couchhttp

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// https://docs.couchdb.org/en/stable/api/server/common.html

func welcome(c *call) error {
	type vendor struct {
		Name    string `json:"name"`
		Version string `json:"version,omitempty"`
	}
	return c.json(http.StatusOK, struct {
		CouchDB  string   `json:"couchdb"`
		Version  string   `json:"version"`
		GitSHA   string   `json:"git_sha"`
		UUID     string   `json:"uuid"`
		Features []string `json:"features"`
		Vendor   vendor   `json:"vendor"`
	}{"Welcome", Version, gitSHA(), c.s.o.UUID, []string{}, vendor{"Loveseat", c.s.o.Release}})
}

// gitSHA is the revision this program was built from.
var gitSHA = sync.OnceValue(func() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				return s.Value[:min(len(s.Value), 9)]
			}
		}
	}
	return ""
})

func up(c *call) error { return writeJSON(c.w, http.StatusOK, []byte(`{"status":"ok","seeds":{}}`)) }

func activeTasks(c *call) error { return writeJSON(c.w, http.StatusOK, []byte(`[]`)) }

// newUUID makes a document id as CouchDB's utc_random does: microseconds, then
// 72 random bits, so that new documents come last in an index.
func newUUID() string {
	var r [9]byte
	_, _ = rand.Read(r[:]) // cannot fail
	return fmt.Sprintf("%014x%s", time.Now().UnixMicro(), hex.EncodeToString(r[:]))
}

func uuids(c *call) error {
	n, ok, err := count(c.query, "count")
	if !ok {
		n = 1
	}
	if err != nil {
		return err
	}
	if n > 1000 {
		return couch.BadRequest("count parameter too large")
	}
	ids := make([]string, n)
	for i := range ids {
		ids[i] = newUUID()
	}
	c.w.Header().Set("Cache-Control", "must-revalidate, no-cache")
	return c.json(http.StatusOK, map[string][]string{"uuids": ids})
}

func allDBs(c *call) error {
	names, err := c.s.o.Store.Databases(c.r.Context())
	if err != nil {
		return err
	}
	start, end, err := keyRange(c.query)
	if err != nil {
		return err
	}
	descending := c.flag("descending")
	if descending {
		start, end = end, start
	}
	names = slices.DeleteFunc(slices.Clone(names), func(n string) bool {
		return start != nil && n < *start || end != nil && n > *end
	})
	if descending {
		slices.Reverse(names)
	}
	skip, _, err := count(c.query, "skip")
	if err != nil {
		return err
	}
	names = names[min(skip, len(names)):]
	limit, ok, err := count(c.query, "limit")
	if err != nil {
		return err
	}
	if ok {
		names = names[:min(limit, len(names))]
	}
	if names == nil {
		names = []string{}
	}
	return c.json(http.StatusOK, names)
}

// keyRange reads startkey and endkey, JSON strings.
func keyRange(q map[string][]string) (start, end *string, err error) {
	for _, p := range []struct {
		names []string
		to    **string
	}{{[]string{"startkey", "start_key"}, &start}, {[]string{"endkey", "end_key"}, &end}} {
		for _, name := range p.names {
			v := strings.Join(q[name], "")
			if v == "" {
				continue
			}
			if *p.to, err = stringKey(name, v); err != nil {
				return nil, nil, err
			}
		}
	}
	return start, end, nil
}

// stringKey reads a key of an index of strings. Values of other types sort
// before (null, booleans, numbers) or after (arrays, objects) every string.
func stringKey(name, v string) (*string, error) {
	var s string
	if json.Unmarshal([]byte(v), &s) == nil && strings.HasPrefix(strings.TrimSpace(v), `"`) {
		return &s, nil
	}
	value := rawJSON(v)
	if !value.IsValid() {
		return nil, &couch.Error{Status: 400, Code: "bad_request", Reason: "invalid UTF-8 JSON"}
	}
	switch value.Kind() {
	case '[', '{':
		s = "\U0010ffff\U0010ffff"
	case 'n':
		return nil, nil
	}
	return &s, nil
}
