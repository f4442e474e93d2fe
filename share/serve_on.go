package share

import (
	"context"
	"crypto/subtle"
	"errors"
	"net"
	"net/http"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// DB returns the name of the shared database, which openers ask for.
func (s *Share) DB() string { return s.dbName }

// Peer returns the id of the peer that shares it.
func (s *Share) Peer() string { return s.peer.ID() }

// ServeOn serves the share also to those who connect to l, which it closes: what it asks
// of them, shows them and tells of them is the same as of the hub's peers. The connections of l are
// [Conn]s; one with a method Welcome is told by it when its peer is admitted, one with a method
// Asking when the owner is asked. secret is what must be shown, as that of an invite, where the share lets in all peers of its hub.
//
// It returns when ctx has ended or l fails, and with it every request. The caller sees to
// it that this is before [Peer.Close].
func (s *Share) ServeOn(ctx context.Context, l net.Listener, secret string) error {
	v := newServer(s.peer.ctx, nil, "", s.log)
	v.http.Handler = &door{s, secret}
	served := make(chan error, 1)
	go func() { served <- v.http.Serve(l) }()
	var err error
	select {
	case err = <-served:
	case <-ctx.Done():
		_ = l.Close() // its connections deliver what was written
		_ = v.http.Close()
		err = <-served
	}
	_ = v.http.Close()
	v.open.Wait()
	if errors.Is(err, http.ErrServerClosed) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// A door is the entrance to a share beside the hub.
type door struct {
	share  *Share
	secret string
}

var errSecret = couch.Forbidden("The secret is missing or wrong.")

// ServeHTTP implements [http.Handler].
func (d *door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	st, _ := r.Context().Value(streamKey).(*stream)
	if st == nil || st.peer == "" {
		refuse(w, couch.Forbidden("A peer that opens this share must show its device key: the URL names the sharer, PEER@HOST."))
		return
	}
	switch a := d.share.admission; {
	case a.approve != nil:
		if c, ok := st.conn.(interface{ Asking() }); ok {
			c.Asking() // a person takes a while to answer
		}
	case a.kind() == OpenAdmission:
		if subtle.ConstantTimeCompare([]byte(r.Header.Get(inviteHeader)), []byte(d.secret)) != 1 {
			refuse(w, errSecret)
			return
		}
		r.Header.Del(inviteHeader) // it is no invite
	}
	d.share.serve(w, r, st)
}

// welcome tells the connection, if it wants to know, that its peer is not turned away.
func (st *stream) welcome() {
	if c, ok := st.conn.(interface{ Welcome() }); ok {
		c.Welcome()
	}
}

// Header returns what an opener's requests show a sharer, for connections without a hub. id is
// the opener's. Errors: as [Peer.OpenWith]'s.
func (o OpenOptions) Header(id *Identity) (http.Header, error) {
	headers, err := o.headers("")
	if err != nil {
		return nil, err
	}
	req := id.introduce(&http.Request{Header: http.Header{}})
	for name, value := range headers {
		req.Header.Set(name, value)
	}
	return req.Header, nil
}
