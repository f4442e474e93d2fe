package couchtest

var kivikPurgeTests = []kivikTest{
	{"Purge", func(k *kenv) {
		db := k.db()
		first := k.put(db, "a", object{"n": 1})
		second := k.put(db, "a", object{"n": 2, "_rev": first})
		k.put(db, "b", object{})
		res, err := db.Purge(k.Context(), map[string][]string{"a": {second, first}, "none": {"1-x"}})
		k.ok(err)
		k.equal("purged", words(len(res.Purged), res.Purged["a"], res.Purged["none"]), words(2, []string{second}, "[]"))
		_, err = db.GetRev(k.Context(), "a")
		k.status(err, 404)
		stats, err := db.Stats(k.Context())
		k.ok(err)
		k.equal("counts", words(stats.DocCount, stats.DeletedCount), "1 0")
	}},
	{"Compact", func(k *kenv) {
		db := k.db()
		rev := k.put(db, "a", object{"n": 1})
		k.put(db, "a", object{"n": 2, "_rev": rev})
		k.ok(db.Compact(k.Context()))
		k.equal("document", k.get(db, "a")["n"], 2)
	}},
}
