package couchhttp

// allowOrder is the Allow header of paths where CouchDB's is not in the order of
// letters, or leaves out PUT, which it answers before it looks for the database.
var allowOrder = map[string]string{
	"/:db":               "DELETE,GET,HEAD,POST",
	"/_uuids":            "GET",
	"/_dbs_info":         "GET,HEAD,POST",
	"/:db/:doc":          "DELETE,GET,HEAD,POST,PUT,COPY",
	"/:db/_design/:ddoc": "DELETE,GET,HEAD,POST,PUT,COPY",
	"/:db/_changes":      "GET,POST,HEAD",
	"/:db/_security":     "PUT,GET",
	"/:db/_local/:local": "DELETE,GET,HEAD,PUT",
}

// routes is the whole API. A path has one entry; what a method does is tagged
// with the operation that access rules decide on.
func (s *Server) routes() []route {
	read, write := OpRead, OpWriteDoc
	doc := map[string]action{"GET": {read, getDoc}, "PUT": {write, putDoc}, "POST": {write, postForm}, "DELETE": {write, deleteDoc}, "COPY": {read, copyDoc}}
	att := map[string]action{"GET": {read, getAttachment}, "PUT": {write, putAttachment}, "DELETE": {write, deleteAttachment}}
	local := map[string]action{"GET": {OpReadLocal, getLocal}, "PUT": {OpWriteLocal, putLocal}, "DELETE": {OpWriteLocal, deleteLocal}}
	return []route{
		{"/", map[string]action{"GET": {OpWelcome, welcome}}},
		{"/_up", map[string]action{"GET": {OpWelcome, up}}},
		{"/_uuids", map[string]action{"GET": {OpWelcome, uuids}}},
		{"/_all_dbs", map[string]action{"GET": {OpListDBs, allDBs}}},
		{"/_dbs_info", map[string]action{"GET": {OpListDBs, dbsInfo}, "POST": {OpListDBs, dbsInfoOf}}},
		{"/_active_tasks", map[string]action{"GET": {OpListDBs, activeTasks}}},
		{"/_membership", map[string]action{"GET": {OpListDBs, membership}}},

		{"/:db", map[string]action{"GET": {OpInfo, getDB}, "PUT": {OpCreateDB, createDB}, "DELETE": {OpDestroyDB, destroyDB}, "POST": {write, postDoc}}},
		{"/:db/_bulk_docs", map[string]action{"POST": {write, bulkDocs}}},
		{"/:db/_bulk_get", map[string]action{"POST": {read, bulkGet}}},
		{"/:db/_all_docs", map[string]action{"GET": {read, allDocs}, "POST": {read, allDocs}}},
		{"/:db/_all_docs/queries", map[string]action{"POST": {read, allDocsQueries}}},
		{"/:db/_design_docs", map[string]action{"GET": {read, designDocs}, "POST": {read, designDocs}}},
		{"/:db/_design_docs/queries", map[string]action{"POST": {read, designDocsQueries}}},
		{"/:db/_changes", map[string]action{"GET": {read, changes}, "POST": {read, changes}}},
		{"/:db/_revs_diff", map[string]action{"POST": {read, revsDiff}}},
		{"/:db/_missing_revs", map[string]action{"POST": {read, missingRevs}}},
		{"/:db/_find", map[string]action{"POST": {read, find}}},
		{"/:db/_explain", map[string]action{"POST": {read, explain}}},
		{"/:db/_index", map[string]action{"GET": {read, indexes}}},
		{"/:db/_security", map[string]action{"GET": {OpReadSecurity, getSecurity}, "PUT": {OpWriteSecurity, putSecurity}}},
		{"/:db/_revs_limit", map[string]action{"GET": {OpInfo, revsLimit}}},
		// A replicator calls this of its source too; it changes nothing here.
		{"/:db/_purge", map[string]action{"POST": {OpPurge, purge}}},
		{"/:db/_compact", map[string]action{"POST": {OpCompact, compact}}},
		{"/:db/_compact/:index", map[string]action{"POST": {OpCompact, compactIndex}}},
		{"/:db/_view_cleanup", map[string]action{"POST": {OpCompact, viewCleanup}}},
		{"/:db/_ensure_full_commit", map[string]action{"POST": {OpInfo, ensureFullCommit}}},

		{"/:db/_local", map[string]action{"GET": {OpReadLocal, getLocal}, "PUT": {OpWriteLocal, putLocal}, "DELETE": {OpWriteLocal, deleteLocal}}}, // without an id
		{"/:db/_local/:local", local},
		{"/:db/_local/:local/*", map[string]action{"GET": {OpReadLocal, noLocalAttachment}, "PUT": {OpReadLocal, noLocalAttachment}, "DELETE": {OpReadLocal, noLocalAttachment}}},
		{"/:db/_design/:ddoc", doc},
		{"/:db/_design/:ddoc/*", att},
		{"/:db/:doc", doc},
		{"/:db/:doc/*", att},
	}
}
