package share

import "time"

// betterPoll is how often idle connections are closed while one is left that has a better successor.
const betterPoll = 100 * time.Millisecond

// followBetter lets go of a connection, once it is idle, when its transport has found a
// better one to the same peer: a direct path instead of the hub's relay. r.mu is held.
func (r *Remote) followBetter(c *remoteConn) {
	s, ok := c.Conn.(interface{ Superseded() <-chan struct{} })
	if !ok || s.Superseded() == nil {
		return
	}
	r.calls.Go(func() {
		select {
		case <-s.Superseded():
		case <-c.closed:
			return
		}
		tick := time.NewTicker(betterPoll)
		defer tick.Stop()
		for {
			r.http.CloseIdleConnections() // new streams cost little
			select {
			case <-tick.C:
			case <-c.closed:
				return
			}
		}
	})
}
