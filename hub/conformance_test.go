package hub

import (
	"net/url"
	"testing"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/couchhttp"
	"github.com/loveseat-db/loveseat/internal/couchtest"
)

// TestConformance: a database behind the hub is the same thing to its callers as
// one they keep themselves, compressed or not, with an account or without.
func TestConformance(t *testing.T) {
	for name, c := range map[string]struct {
		Config
		couchhttp.ClientOptions
	}{
		"plain":      {Config{}, couchhttp.ClientOptions{}},
		"compressed": {Config{Admin: admin}, couchhttp.ClientOptions{Compress: true}},
	} {
		t.Run(name, func(t *testing.T) {
			couchtest.Run(t, func(t *testing.T) couch.Store {
				s := start(t, c.Config)
				base, err := url.Parse(s.url)
				if err != nil {
					t.Fatal(err)
				}
				if c.Admin != nil {
					base.User = url.UserPassword(c.Admin.Name, c.Admin.Password)
				}
				client := couchhttp.NewClient(base, nil, c.ClientOptions)
				t.Cleanup(func() { client.Close() })
				return client
			})
		})
	}
}
