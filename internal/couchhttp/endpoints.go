package couchhttp

import (
	"maps"
	"slices"
)

// An Endpoint is one method of one path of the API, for those who keep a list of
// what is served and who may use it.
type Endpoint struct {
	Method string
	Path   string // with ":name" for a segment and "*" for the rest
	Op     Op
}

// Endpoints lists the API in the order of its routes.
func (s *Server) Endpoints() []Endpoint {
	var all []Endpoint
	for _, r := range s.routes() {
		if get, ok := r.methods["GET"]; ok {
			r.methods["HEAD"] = get
		}
		for _, m := range slices.Sorted(maps.Keys(r.methods)) {
			all = append(all, Endpoint{m, r.path, r.methods[m].op})
		}
	}
	return all
}
