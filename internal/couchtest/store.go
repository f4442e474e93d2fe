package couchtest

import (
	"slices"

	"github.com/loveseat-db/loveseat/internal/couch"
)

const noDatabase = "Database does not exist."

var storeTests = []test{
	{"CreateListDestroy", func(e *env) {
		a, b := freshName(), freshName()
		e.ok(e.Create(e.Context(), b))
		e.ok(e.Create(e.Context(), a))
		names, err := e.Databases(e.Context())
		e.ok(err)
		if !slices.Contains(names, a) || !slices.Contains(names, b) || !slices.IsSorted(names) {
			e.Fatalf("databases: %q", names)
		}
		e.ok(e.Destroy(e.Context(), a))
		e.ok(e.Destroy(e.Context(), b))
		names, err = e.Databases(e.Context())
		e.ok(err)
		if slices.Contains(names, a) || slices.Contains(names, b) {
			e.Fatalf("databases: %q", names)
		}
	}},
	{"CreateTwice", func(e *env) {
		name := e.info(e.db()).Name
		e.fails(e.Create(e.Context(), name), 412, "file_exists", "The database could not be created, the file already exists.")
	}},
	{"IllegalNames", func(e *env) {
		for _, name := range []string{"", "Upper", "1digit", "sp ace", "ümlaut", "../up", "a?b", "-a"} {
			err := e.Create(e.Context(), name)
			if couch.AsError(err).Status/100 != 4 {
				e.Errorf("%q was accepted: %v", name, err)
			}
		}
		e.fails(e.Create(e.Context(), "Upper"), 400, "illegal_database_name", "")
	}},
	{"LegalNames", func(e *env) {
		name := freshName() + "_a+b-c$d(e)/f"
		e.ok(e.Create(e.Context(), name))
		db, err := e.Open(e.Context(), name)
		e.ok(err)
		e.put(db, `{"_id":"a"}`)
		e.equal("name", e.info(db).Name, name)
		names, err := e.Databases(e.Context())
		e.ok(err)
		e.equal("listed", slices.Contains(names, name), true)
		e.ok(e.Destroy(e.Context(), name))
	}},
	{"MissingDatabase", func(e *env) {
		_, err := e.Open(e.Context(), freshName())
		e.fails(err, 404, "not_found", noDatabase)
		e.fails(e.Destroy(e.Context(), freshName()), 404, "not_found", noDatabase)
	}},
	{"DestroyedDatabase", func(e *env) {
		name := freshName()
		e.ok(e.Create(e.Context(), name))
		db, err := e.Open(e.Context(), name)
		e.ok(err)
		e.put(db, `{"_id":"a"}`)
		e.ok(e.Destroy(e.Context(), name))
		_, err = db.Get(e.Context(), "a", couch.GetOptions{})
		e.fails(err, 404, "not_found", noDatabase)
		_, err = db.Info(e.Context())
		e.fails(err, 404, "not_found", noDatabase)
		_, err = db.BulkDocs(e.Context(), []*couch.Doc{{ID: "a"}}, couch.WriteOptions{})
		e.fails(err, 404, "not_found", noDatabase)
	}},
	{"RecreatedDatabaseIsEmpty", func(e *env) {
		name := freshName()
		for range 3 {
			e.ok(e.Create(e.Context(), name))
			db, err := e.Open(e.Context(), name)
			e.ok(err)
			e.equal("documents", e.info(db).DocCount, 0)
			e.put(db, `{"_id":"a"}`)
			e.ok(e.Destroy(e.Context(), name))
		}
	}},
	{"OpenTwice", func(e *env) {
		db := e.db()
		again, err := e.Open(e.Context(), e.info(db).Name)
		e.ok(err)
		e.put(again, `{"_id":"a","n":1}`)
		e.equal("body", string(e.get(db, "a", couch.GetOptions{}).Body), `{"n":1}`)
	}},
	{"Info", func(e *env) {
		db := e.db()
		empty := e.info(db)
		e.equal("empty", []int64{empty.DocCount, empty.DelCount}, []int64{0, 0})
		r := e.put(db, `{"_id":"a"}`, `{"_id":"_design/x"}`, `{"_id":"b"}`)
		e.put(db, `{"_id":"b","_rev":"`+r.String()+`","_deleted":true}`)
		full := e.info(db)
		e.equal("counts", []int64{full.DocCount, full.DelCount}, []int64{2, 1})
		if full.UpdateSeq == empty.UpdateSeq || full.UUID != empty.UUID {
			e.Errorf("%+v, then %+v", empty, full)
		}
	}},
	{"Security", func(e *env) {
		db := e.db()
		_, err := db.Security(e.Context())
		e.ok(err)
		want := `{"admins":{"names":["a"],"roles":["x"]},"members":{"names":[],"roles":[]},"other":1.50}`
		e.ok(db.SetSecurity(e.Context(), []byte(want)))
		got, err := db.Security(e.Context())
		e.ok(err)
		e.equal("security", string(got), want)
		if err := db.SetSecurity(e.Context(), []byte(`[]`)); couch.AsError(err).Status != 400 {
			e.Errorf("an array was accepted: %v", err)
		}
	}},
}
