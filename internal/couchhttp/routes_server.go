package couchhttp

import (
	"crypto/md5"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"math/big"
	"net/http"
	"runtime/debug"
	"slices"
	"strconv"
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
	n := 1
	if c.query.Has("count") {
		var err error
		if n, err = strconv.Atoi(c.query.Get("count")); err != nil || n < 0 {
			return couch.BadRequest("invalid count")
		}
	}
	if n > 1000 {
		return couch.BadRequest("count parameter too large")
	}
	ids := make([]string, n)
	for i := range ids {
		ids[i] = newUUID()
	}
	h := c.w.Header()
	h.Set("Cache-Control", "must-revalidate, no-cache")
	h.Set("Expires", "Mon, 01 Jan 1990 00:00:00 GMT")
	h.Set("Pragma", "no-cache")
	h.Set("ETag", textETag(ids))
	return c.json(http.StatusOK, map[string][]string{"uuids": ids})
}

// membership is the nodes of the cluster: this one.
func membership(c *call) error {
	return writeJSON(c.w, http.StatusOK, []byte(`{"all_nodes":["couchdb@127.0.0.1"],"cluster_nodes":["couchdb@127.0.0.1"]}`))
}

// maxDBsInfo is CouchDB's [chttpd] max_db_number_for_dbs_info_req.
const maxDBsInfo = 100

// dbsInfo is GET /_dbs_info: of all databases, narrowed as _all_dbs is.
func dbsInfo(c *call) error {
	names, err := c.databases()
	if err != nil {
		return err
	}
	return c.sendInfos(names, false)
}

// dbsInfoOf is POST /_dbs_info: of those that it names.
func dbsInfoOf(c *call) error {
	if err := c.needJSON(); err != nil {
		return err
	}
	body, err := c.listBody()
	if err != nil {
		return err
	}
	var b struct {
		Keys *[]string `json:"keys"`
	}
	if err := decodeObject(body, &b); err != nil {
		return keysMemberError(err)
	}
	switch {
	case b.Keys == nil:
		return couch.BadRequest("`keys` member must exist.")
	case len(*b.Keys) > maxDBsInfo:
		return couch.BadRequest("too_many_keys")
	}
	return c.sendInfos(*b.Keys, true)
}

// sendInfos tells of databases; one that is missing is passed over, or told if it was named.
func (c *call) sendInfos(names []string, named bool) error {
	type row struct {
		Key   string `json:"key"`
		Info  any    `json:"info,omitzero"`
		Error string `json:"error,omitzero"`
	}
	rows := make([]row, 0, len(names))
	for _, name := range names {
		info, err := c.infoOf(name)
		switch {
		case err == nil:
			rows = append(rows, row{Key: name, Info: c.dbInfo(name, info)})
		case couch.AsError(err).Status != http.StatusNotFound:
			return err
		case named:
			rows = append(rows, row{Key: name, Error: "not_found"})
		}
	}
	return c.json(http.StatusOK, rows)
}

func (c *call) infoOf(name string) (*couch.Info, error) {
	if !validDBName(name) {
		return nil, couch.NotFound("Database does not exist.")
	}
	db, err := c.s.o.Store.Open(c.r.Context(), name)
	if err != nil {
		return nil, err
	}
	return db.Info(c.r.Context())
}

func allDBs(c *call) error {
	names, err := c.databases()
	if err != nil {
		return err
	}
	etag := textETag(names)
	if c.notModified(etag) {
		return nil
	}
	c.w.Header().Set("ETag", etag)
	return c.json(http.StatusOK, names)
}

// textETag is the ETag of an answer that is nothing but these texts.
func textETag(texts []string) string {
	sum := md5.Sum([]byte(strings.Join(texts, "\x00")))
	return `"` + new(big.Int).SetBytes(sum[:]).Text(36) + `"`
}

// databases is the names of the databases that the query's parameters select.
func (c *call) databases() ([]string, error) {
	names, err := c.s.o.Store.Databases(c.r.Context())
	if err != nil {
		return nil, err
	}
	start, end, err := keyRange(c.query)
	if err != nil {
		return nil, err
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
		return nil, err
	}
	names = names[min(skip, len(names)):]
	limit, ok, err := count(c.query, "limit")
	if err != nil {
		return nil, err
	}
	if ok {
		names = names[:min(limit, len(names))]
	}
	if names == nil {
		names = []string{}
	}
	return names, nil
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
