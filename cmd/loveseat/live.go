package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/http"
	"time"

	"github.com/go-kivik/kivik/v4"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/share"
)

// How long a live sync waits before it opens its ends again.
const (
	reopenMin = 200 * time.Millisecond
	reopenMax = 5 * time.Second
)

// live replicates until ctx ends. The replication itself goes on when connections break; what
// it cannot outlive are a share that its sharer has ended, and a hub or share that is away when the ends are opened.
func (s *syncRun) live(ctx context.Context) error {
	for wait := reopenMin; ; wait = min(2*wait, reopenMax) {
		began := time.Now()
		err := s.once(ctx)
		if err == nil || ctx.Err() != nil || !s.comesBack(err) {
			return err
		}
		if time.Since(began) > reopenMax {
			wait = reopenMin
		}
		pause := wait - rand.N(wait/2) // so that peers do not come in step
		s.progress.waiting(err, pause)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// comesBack reports whether waiting may help: a server that does not answer comes back, and
// so does a share, whose link stays the same. Other errors are of the words of the command.
func (s *syncRun) comesBack(err error) bool {
	if errors.Is(err, couch.ErrNotFound) || kivik.HTTPStatus(err) == http.StatusNotFound {
		return share.IsLink(s.a) || share.IsLink(s.b)
	}
	var known *couch.Error
	if errors.As(err, &known) {
		return known.Status >= 500 || known.Status == http.StatusTooManyRequests || known.Status == http.StatusRequestTimeout
	}
	return errors.As(err, new(net.Error))
}
