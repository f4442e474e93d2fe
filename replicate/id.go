package replicate

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// logVersion is replication_id_version: of how replicationID is made.
const logVersion = 4

// replicationID names a replication by what it copies between which databases,
// the same for every run, on every address the databases have.
func replicationID(from, to *couch.Info, o Options) string {
	ids := slices.Clone(o.DocIDs)
	slices.Sort(ids)
	ids = slices.Compact(ids)
	of := []any{logVersion, identity(from), identity(to), o.DocIDs != nil, ids, canonical(o.Selector), o.Since}
	if o.DesignFilter != "" {
		of = append(of, "filter", o.DesignFilter, o.QueryParams) // a map's members are written sorted
	}
	if o.WinnersOnly {
		of = append(of, "winners")
	}
	if modify := o.modifier(); o.Filter != nil || modify != nil {
		of = append(of, "funcs", o.Filter != nil, modify != nil, o.FuncsVersion)
	}
	b, _ := json.Marshal(of) // strings and booleans: cannot fail
	h := sha256.Sum256(b)
	return "loveseat-" + hex.EncodeToString(h[:16])
}

// canonical spells a selector with sorted members and without white space, so
// that the order in which they are written does not make another replication.
func canonical(selector json.RawMessage) string {
	dec := json.NewDecoder(bytes.NewReader(selector))
	dec.UseNumber()
	var v any
	if dec.Decode(&v) != nil {
		return string(selector)
	}
	b, err := json.Marshal(v)
	if err != nil {
		return string(selector)
	}
	return string(b)
}

func identity(i *couch.Info) string {
	if i.UUID != "" {
		return i.UUID
	}
	return i.Name
}
