package share

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// headers are the headers by which an opener shows who it is.
func (o *OpenOptions) headers(ref string) (map[string]string, error) {
	h := map[string]string{}
	if l, err := ParseLink(ref); err == nil && o.Invite == "" {
		o.Invite = l.Secret
	}
	if len(o.Invite) > 256 || !printable(o.Invite) {
		return nil, couch.BadRequest("This is no invite.")
	}
	if o.Invite != "" {
		h[inviteHeader] = o.Invite
	}
	if o.Info == nil {
		return h, nil
	}
	b, err := json.Marshal(o.Info)
	switch {
	case err != nil:
		return nil, couch.BadRequest("info: " + err.Error())
	case len(b) > maxOpenInfo:
		return nil, couch.BadRequest("An opener's info is limited to 4 KiB.")
	}
	h[infoHeader] = base64.RawURLEncoding.EncodeToString(b)
	return h, nil
}

// printable reports whether a text can stand in a header.
func printable(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return true
}

// An introduced adds a Remote's headers to its requests.
type introduced struct{ roundTripper }

// RoundTrip implements [http.RoundTripper].
func (t introduced) RoundTrip(req *http.Request) (*http.Response, error) {
	if len(t.r.headers) > 0 {
		req = req.Clone(req.Context())
		for name, value := range t.r.headers {
			req.Header.Set(name, value)
		}
	}
	resp, err := t.roundTripper.RoundTrip(req)
	if errors.Is(err, errGone) && !t.r.until.IsZero() && !time.Now().Before(t.r.until) {
		return nil, errExpired
	}
	return resp, err
}
