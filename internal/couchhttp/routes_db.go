package couchhttp

import (
	"cmp"
	"net/http"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// https://docs.couchdb.org/en/stable/api/database/

func getDB(c *call) error {
	db, err := c.open()
	if err != nil {
		return err
	}
	info, err := db.Info(c.r.Context())
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, c.dbInfo(c.db, info))
}

// dbInfo is what GET /{db} tells, to be written as JSON.
func (c *call) dbInfo(name string, info *couch.Info) any {
	type sizes struct {
		File     int64 `json:"file"`
		External int64 `json:"external"`
		Active   int64 `json:"active"`
	}
	type cluster struct {
		Q int `json:"q"`
		N int `json:"n"`
		W int `json:"w"`
		R int `json:"r"`
	}
	return struct {
		InstanceStart string    `json:"instance_start_time"`
		Name          string    `json:"db_name"`
		UUID          string    `json:"uuid,omitempty"` // not CouchDB's: tells databases of one server apart when names change
		PurgeSeq      string    `json:"purge_seq"`
		UpdateSeq     couch.Seq `json:"update_seq"`
		Sizes         sizes     `json:"sizes"`
		Props         struct{}  `json:"props"`
		DelCount      int64     `json:"doc_del_count"`
		DocCount      int64     `json:"doc_count"`
		DiskFormat    int       `json:"disk_format_version"`
		Compacting    bool      `json:"compact_running"`
		Cluster       cluster   `json:"cluster"`
	}{
		c.s.started, name, info.UUID, cmp.Or(string(info.PurgeSeq), "0"), info.UpdateSeq, sizes{info.FileSize, info.ActiveSize, info.ActiveSize}, struct{}{},
		info.DelCount, info.DocCount, 8, info.Compacting || c.s.compactions.on(name), cluster{1, 1, 1, 1},
	}
}

func createDB(c *call) error {
	if !validDBName(c.db) {
		return illegalDBName(c.db)
	}
	for _, name := range []string{"q", "n"} { // there is one shard, in one copy
		if n, err := strconv.Atoi(c.query.Get(name)); c.query.Has(name) && (err != nil || n <= 0) {
			return couch.BadRequest("The `" + name + "` value should be a positive integer.")
		}
	}
	switch c.query.Get("partitioned") {
	case "", "false":
	case "true":
		return couch.BadRequest("Partitioned feature is not enabled.")
	default:
		return couch.BadRequest("Invalid `partitioned` parameter")
	}
	if err := c.s.o.Store.Create(c.r.Context(), c.db); err != nil {
		return err
	}
	c.w.Header().Set("Location", c.location(c.db))
	return c.ok(http.StatusCreated)
}

func destroyDB(c *call) error {
	if c.query.Has("rev") { // CouchDB's guard against a script whose document id came out empty
		return couch.BadRequest("You tried to DELETE a database with a ?=rev parameter. Did you mean to DELETE a document instead?")
	}
	if !validDBName(c.db) {
		return couch.NotFound("Database does not exist.")
	}
	if err := c.s.o.Store.Destroy(c.r.Context(), c.db); err != nil {
		return err
	}
	return c.ok(http.StatusOK)
}

// IsEndpoint reports whether what stands where a database's name does is an endpoint of the
// server, "_scheduler" say, which CouchDB answers for administrators only.
func IsEndpoint(name string) bool { return strings.HasPrefix(name, "_") && !validDBName(name) }

// validDBName reports whether a database of this name may be made:
// [a-z][a-z0-9_$()+/-]*, and the system databases.
func validDBName(name string) bool {
	if name == "_users" || name == "_replicator" || name == "_global_changes" {
		return true
	}
	for i := range len(name) {
		switch b := name[i]; {
		case 'a' <= b && b <= 'z':
		case i == 0:
			return false
		case '0' <= b && b <= '9', b == '_', b == '$', b == '(', b == ')', b == '+', b == '-', b == '/':
		default:
			return false
		}
	}
	return name != ""
}

func illegalDBName(name string) error {
	return &couch.Error{Status: 400, Code: "illegal_database_name", Reason: "Name: '" + name + "'. Only lowercase characters (a-z), digits (0-9), and any of the characters _, $, (, ), +, -, and / are allowed. Must begin with a letter."}
}

func ensureFullCommit(c *call) error {
	if err := c.needJSON(); err != nil {
		return err
	}
	if _, err := c.open(); err != nil {
		return err
	}
	// Every write is durable before it is answered.
	return c.json(http.StatusCreated, struct {
		OK    bool   `json:"ok"`
		Start string `json:"instance_start_time"`
	}{true, c.s.started})
}

func getSecurity(c *call) error {
	db, err := c.open()
	if err != nil {
		return err
	}
	security, err := db.Security(c.r.Context())
	if err != nil {
		return err
	}
	return writeJSON(c.w, http.StatusOK, security)
}

func putSecurity(c *call) error {
	db, err := c.open()
	if err != nil {
		return err
	}
	body, err := c.listBody()
	if err != nil {
		return err
	}
	v := rawJSON(body)
	if !v.IsValid() {
		return couch.BadRequest("invalid UTF-8 JSON")
	}
	if v.Kind() != '{' {
		return couch.BadRequest("Security object must be a JSON object")
	}
	if int64(len(body)) > c.s.o.Limits.Document {
		return errTooLarge
	}
	if err := checkSecurity(body); err != nil {
		return err
	}
	if err := db.SetSecurity(c.r.Context(), body); err != nil {
		return err
	}
	return c.ok(http.StatusOK)
}

// checkSecurity refuses groups that are not lists of names and roles.
func checkSecurity(body []byte) error {
	var groups struct {
		Admins, Members, Readers *struct{ Names, Roles rawJSON }
	}
	if json.Unmarshal(body, &groups, json.MatchCaseInsensitiveNames(true)) != nil {
		return couch.BadRequest("admins and members must be JSON objects")
	}
	for _, g := range []*struct{ Names, Roles rawJSON }{groups.Admins, groups.Members, groups.Readers} {
		if g == nil {
			continue
		}
		for what, list := range map[string]rawJSON{"names": g.Names, "roles": g.Roles} {
			if list != nil && (list.Kind() != '[' || json.Unmarshal(list, new([]string)) != nil) {
				return couch.BadRequest(what + " must be a JSON list of strings")
			}
		}
	}
	return nil
}

// defaultRevsLimit is CouchDB's, which local databases keep to.
const defaultRevsLimit = 1000

func revsLimit(c *call) error {
	if _, err := c.open(); err != nil {
		return err
	}
	return writeJSON(c.w, http.StatusOK, strconv.AppendInt(nil, defaultRevsLimit, 10))
}
