package couch

// SinceGen returns the newest generation of the document's own ancestry (itself
// included) that is among since, 0 if none is known to be. Whoever has that
// revision has every attachment with a RevPos up to it, so that those can come
// as stubs (atts_since, https://docs.couchdb.org/en/stable/api/document/common.html).
func (d *Doc) SinceGen(since []Rev) int64 {
	var gen int64
	ids := d.Ancestry()
	for _, r := range since {
		i := d.Rev.Gen - r.Gen
		if r.Gen > gen && i >= 0 && i < int64(len(ids)) && ids[i] == r.Hash {
			gen = r.Gen
		}
	}
	return gen
}
