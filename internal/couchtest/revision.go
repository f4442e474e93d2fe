package couchtest

import (
	"errors"
	"fmt"

	"github.com/loveseat-db/loveseat/internal/couch"
)

var revisionTests = []test{
	{"HistoryIsKept", func(e *env) {
		db := e.db()
		e.replicate(db, history("a", "c b a", `,"n":3`))
		d := e.get(db, "a", couch.GetOptions{Revs: true, RevsInfo: true})
		e.equal("document", words(d.Rev, d.Revisions, string(d.Body)), `3-c [c b a] {"n":3}`)
		e.equal("info", d.RevsInfo, []couch.RevInfo{{Rev: rev("3-c"), Status: "available"}, {Rev: rev("2-b"), Status: "missing"}, {Rev: rev("1-a"), Status: "missing"}})
		_, err := db.Get(e.Context(), "a", couch.GetOptions{Rev: rev("2-b")})
		e.fails(err, 404, "not_found", "missing")
	}},
	{"WithoutHistory", func(e *env) {
		db := e.db()
		e.replicate(db, `{"_id":"a","_rev":"7-x"}`)
		d := e.get(db, "a", couch.GetOptions{Revs: true})
		e.equal("document", words(d.Rev, d.Revisions), "7-x [x]")
	}},
	{"TwiceChangesNothing", func(e *env) {
		db := e.db()
		e.replicate(db, history("a", "c b a", ""), history("a", "d b a", ""))
		before := e.info(db)
		e.replicate(db, history("a", "c b a", ""), history("a", "d b a", ""), history("a", "b a", ""))
		e.equal("info", e.info(db).UpdateSeq, before.UpdateSeq)
	}},
	{"Winner", func(e *env) {
		branches := map[string]string{
			"3-c":  history("a", "c b a", `,"n":"c"`),
			"3-d":  history("a", "d b a", `,"n":"d"`),
			"2-z":  history("a", "z a", `,"n":"z"`),
			"4-t!": history("a", "t! y x a", `,"_deleted":true`),
		}
		for _, tt := range []struct{ order, winner, conflicts, deleted []string }{
			{[]string{"3-c", "3-d"}, []string{"3-d"}, []string{"3-c"}, nil},
			{[]string{"3-d", "3-c"}, []string{"3-d"}, []string{"3-c"}, nil},
			{[]string{"2-z", "3-c"}, []string{"3-c"}, []string{"2-z"}, nil},
			{[]string{"3-c", "2-z", "3-d"}, []string{"3-d"}, []string{"2-z", "3-c"}, nil},
			{[]string{"4-t!", "2-z"}, []string{"2-z"}, nil, []string{"4-t!"}},
			{[]string{"2-z", "4-t!", "3-c"}, []string{"3-c"}, []string{"2-z"}, []string{"4-t!"}},
		} {
			db := e.db()
			for _, name := range tt.order {
				e.replicate(db, branches[name])
			}
			d := e.get(db, "a", couch.GetOptions{Conflicts: true})
			e.equal("winner", d.Rev, tt.winner[0])
			e.equal("conflicts", sortedRevs(d.Conflicts), revs(tt.conflicts...))
			e.equal("deleted conflicts", sortedRevs(d.DeletedConflicts), revs(tt.deleted...))
		}
	}},
	{"AllLeavesDeleted", func(e *env) {
		db := e.db()
		e.replicate(db, history("a", "x a", `,"_deleted":true`), history("a", "y a", `,"_deleted":true`))
		_, err := db.Get(e.Context(), "a", couch.GetOptions{})
		e.fails(err, 404, "not_found", "deleted")
		e.equal("counts", words(e.info(db).DocCount, e.info(db).DelCount), "0 1")
	}},
	{"GenerationsAreNumbers", func(e *env) {
		db := e.db()
		e.replicate(db, `{"_id":"a","_rev":"10-a"}`, `{"_id":"a","_rev":"9-z"}`)
		e.equal("winner", e.get(db, "a", couch.GetOptions{}).Rev, "10-a")
	}},
	{"DeletingTheWinnerShowsTheOther", func(e *env) {
		db := e.db()
		e.replicate(db, history("a", "c b a", `,"n":"c"`), history("a", "d b a", `,"n":"d"`))
		e.put(db, `{"_id":"a","_rev":"3-d","_deleted":true}`)
		d := e.get(db, "a", couch.GetOptions{Conflicts: true})
		e.equal("winner", words(d.Rev, string(d.Body), len(d.Conflicts), len(d.DeletedConflicts)), `3-c {"n":"c"} 0 1`)
	}},
	{"EditOfALosingLeaf", func(e *env) {
		db := e.db()
		e.replicate(db, history("a", "c b a", ""), history("a", "d b a", ""))
		r := e.put(db, `{"_id":"a","_rev":"3-c","n":4}`)
		d := e.get(db, "a", couch.GetOptions{Revs: true, Conflicts: true})
		e.equal("winner", words(d.Rev, d.Revisions[1:], d.Conflicts), words(r, "[c b a]", "[3-d]"))
		e.fails(e.refused(db, couch.WriteOptions{}, parse(e, `{"_id":"a","_rev":"2-b"}`)), 409, "conflict", updateConflict)
	}},
	{"HistoriesAreJoined", func(e *env) {
		db := e.db()
		e.replicate(db, history("a", "c b a", ""), history("a", "e d c b a", ""))
		d := e.get(db, "a", couch.GetOptions{Revs: true, Conflicts: true})
		e.equal("document", words(d.Rev, d.Revisions, len(d.Conflicts)), "5-e [e d c b a] 0")
	}},
	{"SameHashDifferentGeneration", func(e *env) {
		db := e.db()
		e.replicate(db, history("a", "x a", ""), history("a", "x b a", ""))
		d := e.get(db, "a", couch.GetOptions{Conflicts: true})
		e.equal("leaves", words(d.Rev, d.Conflicts), "3-x [2-x]")
	}},
	{"ReplicatedOverEdit", func(e *env) {
		db := e.db()
		r := e.put(db, `{"_id":"a","n":1}`)
		e.replicate(db, fmt.Sprintf(`{"_id":"a","_rev":"2-ffff","_revisions":{"start":2,"ids":["ffff","%s"]},"n":2}`, r.Hash))
		d := e.get(db, "a", couch.GetOptions{Conflicts: true, Revs: true})
		e.equal("document", words(d.Rev, d.Revisions, len(d.Conflicts)), fmt.Sprintf("2-ffff [ffff %s] 0", r.Hash))
	}},
	{"RevsDiff", func(e *env) {
		db := e.db()
		e.replicate(db, history("a", "b a", ""), history("b", "x", ""), history("c", "r q p", ""))
		diffs, err := db.RevsDiff(e.Context(), []couch.DocRevs{
			{ID: "a", Revs: revs("3-c", "2-b", "2-z")}, {ID: "b", Revs: revs("1-x")}, {ID: "c", Revs: revs("1-p", "2-q", "3-r")}, {ID: "new", Revs: revs("1-n", "2-m")},
		})
		e.ok(err)
		got := map[string]couch.RevsDiff{}
		for _, d := range diffs {
			got[d.ID] = d
		}
		e.equal("documents", len(got), 2)
		e.equal("missing of a", sortedRevs(got["a"].Missing), "[2-z 3-c]")
		e.equal("ancestors of a", got["a"].PossibleAncestors, "[2-b]")
		e.equal("missing of new", sortedRevs(got["new"].Missing), "[1-n 2-m]")
		e.equal("ancestors of new", len(got["new"].PossibleAncestors), 0)
		diffs, err = db.RevsDiff(e.Context(), nil)
		e.ok(err)
		e.equal("nothing asked", len(diffs), 0)
	}},
	{"RevsDiffIsTheCallersOwn", func(e *env) {
		db := e.db()
		asked := []couch.DocRevs{{ID: "a", Revs: revs("1-x", "1-y")}}
		diffs, err := db.RevsDiff(e.Context(), asked)
		e.ok(err)
		diffs[0].Missing[0] = rev("9-z") // as a caller may who sorts or cuts it
		e.equal("asked", asked[0].Revs, "[1-x 1-y]")
	}},
	{"LongHistory", func(e *env) {
		db := e.db()
		r := e.put(db, `{"_id":"a"}`)
		for range 40 {
			r = e.put(db, fmt.Sprintf(`{"_id":"a","_rev":"%s"}`, r))
		}
		d := e.get(db, "a", couch.GetOptions{Revs: true})
		e.equal("generations", words(r.Gen, len(d.Revisions)), "41 41")
	}},
}

var readTests = []test{
	{"Missing", func(e *env) {
		db := e.db()
		_, err := db.Get(e.Context(), "a", couch.GetOptions{})
		e.fails(err, 404, "not_found", "missing")
		e.put(db, `{"_id":"a"}`)
		_, err = db.Get(e.Context(), "a", couch.GetOptions{Rev: rev("3-x")})
		e.fails(err, 404, "not_found", "missing")
	}},
	{"OnlyWhatIsAskedFor", func(e *env) {
		db := e.db()
		e.replicate(db, history("a", "c b a", ""), history("a", "d b a", ""))
		d := e.get(db, "a", couch.GetOptions{})
		if d.Revisions != nil || d.RevsInfo != nil || d.Conflicts != nil || d.LocalSeq != "" {
			e.Errorf("%+v", d)
		}
		if d = e.get(db, "a", couch.GetOptions{LocalSeq: true}); d.LocalSeq == "" {
			e.Error("no local_seq")
		}
	}},
	{"RevsInfo", func(e *env) {
		db := e.db()
		e.replicate(db, history("a", "b a", ""))
		e.put(db, `{"_id":"a","_rev":"2-b","_deleted":true}`)
		r := e.put(db, `{"_id":"a"}`)
		info := e.get(db, "a", couch.GetOptions{RevsInfo: true}).RevsInfo
		e.equal("length", len(info), 4)
		e.equal("newest", info[0], couch.RevInfo{Rev: r, Status: "available"})
		e.equal("oldest", info[3], couch.RevInfo{Rev: rev("1-a"), Status: "missing"})
	}},
	{"Latest", func(e *env) {
		db := e.db()
		e.replicate(db, history("a", "c b a", `,"n":3`))
		d := e.get(db, "a", couch.GetOptions{Rev: rev("1-a"), Latest: true})
		e.equal("document", words(d.Rev, string(d.Body)), `3-c {"n":3}`)
	}},
	{"BulkGet", func(e *env) {
		db := e.db()
		e.replicate(db, history("a", "c b a", `,"n":"c"`), history("a", "d b a", `,"_deleted":true`), history("b", "x", ""))
		got := e.bulkGet(db, couch.GetOptions{Revs: true}, couch.DocRef{ID: "b", Rev: rev("1-x")}, couch.DocRef{ID: "none", Rev: rev("1-x")},
			couch.DocRef{ID: "a", Rev: rev("3-d")}, couch.DocRef{ID: "a", Rev: rev("9-z")}, couch.DocRef{ID: "a", Rev: rev("3-c")})
		e.equal("results", len(got), 5)
		e.equal("first", words(got[0].Doc.Rev, got[0].Doc.Revisions), "1-x [x]")
		e.equal("tombstone", words(got[2].Doc.Rev, got[2].Doc.Deleted), "3-d true")
		e.equal("last", words(got[4].Doc.Rev, string(got[4].Doc.Body)), `3-c {"n":"c"}`)
		for _, i := range []int{1, 3} {
			if got[i].Doc != nil || got[i].Err == nil {
				e.Fatalf("%d: %+v", i, got[i])
			}
			e.fails(got[i].Err, 404, "not_found", "missing")
		}
	}},
	{"BulkGetAllLeaves", func(e *env) {
		db := e.db()
		e.replicate(db, history("a", "c b a", ""), history("a", "d b a", `,"_deleted":true`))
		got := e.bulkGet(db, couch.GetOptions{}, couch.DocRef{ID: "a"}, couch.DocRef{ID: "none"})
		e.equal("results", len(got), 3)
		e.equal("leaves", sortedRevs([]couch.Rev{got[0].Doc.Rev, got[1].Doc.Rev}), "[3-c 3-d]")
		e.fails(got[2].Err, 404, "not_found", "missing")
	}},
	{"BulkGetLatest", func(e *env) {
		db := e.db()
		e.replicate(db, history("a", "c b a", ""))
		got := e.bulkGet(db, couch.GetOptions{Latest: true}, couch.DocRef{ID: "a", Rev: rev("1-a")})
		e.equal("results", len(got), 1)
		e.equal("leaf", got[0].Doc.Rev, "3-c")
	}},
	{"BulkGetStops", func(e *env) {
		db := e.db()
		e.put(db, `{"_id":"a"}`, `{"_id":"b"}`)
		stop := errors.New("stop")
		n := 0
		err := db.BulkGet(e.Context(), []couch.DocRef{{ID: "a"}, {ID: "b"}}, couch.GetOptions{}, func(couch.BulkGetResult) error { n++; return stop })
		if !errors.Is(err, stop) || n != 1 {
			e.Errorf("%v after %d", err, n)
		}
	}},
}
