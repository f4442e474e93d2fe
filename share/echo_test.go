package share

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
)

func TestEcho(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		hub, db := w.hostileHub()
		w.hub = db
		p := w.join(nil)
		for range 3 {
			if took, err := p.Echo(w.ctx); err != nil || took > time.Second {
				t.Errorf("%v, %v", took, err)
			}
		}
		hub.attack(func(*couch.Doc) []*couch.Doc { return nil })
		ctx, cancel := context.WithTimeout(w.ctx, time.Minute)
		defer cancel()
		if _, err := p.Echo(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("through a hub that tells nothing: %v", err)
		}
	})
}
