package share

import (
	"context"
	"time"
)

// kindEcho is the kind of the signal that a peer sends to itself; transports pass over it.
const kindEcho = "echo"

// Echo sends a signal to this peer itself through the hub and returns how long
// it was under way: whether signals come through at all, and what a negotiation will
// wait for each. Errors: the hub's; ctx's if the signal does not come.
func (p *Peer) Echo(ctx context.Context) (time.Duration, error) {
	came := make(chan struct{}, 1)
	session := randomHex(16)
	defer p.mailbox.overhear(func(s Signal) {
		if s.Session == session && s.Kind == kindEcho {
			came <- struct{}{}
		}
	})()
	began := time.Now()
	if err := p.mailbox.Send(ctx, Signal{To: p.address(), Session: session, Kind: kindEcho}); err != nil {
		return 0, err
	}
	select {
	case <-came:
		return time.Since(began), nil
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-p.ctx.Done():
		return 0, ErrClosed
	}
}
