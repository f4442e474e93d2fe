package peeradapter

import "time"

// How a WebRTC peer is watched.
const (
	pulseTime  = time.Second      // between two looks at a connection that is used
	pathSilent = 3 * time.Second  // without an acknowledgement of what was sent: then no packets come
	restMin    = 5 * time.Second  // before an idle peer is asked for a sign of life once more
	restMax    = 15 * time.Second // the same after a while; NATs forget paths after 30 s
)

// A pulse watches a WebRTC peer and the path to it by what is sent anyway: SCTP acknowledges it,
// also when the peer itself, as a frozen browser tab, answers no longer. Only when nothing is sent it asks
// for a sign of life, the more seldom the longer that lasts: sharers have hundreds of idle peers. (ICE's own
// keep-alives, every two seconds for each of them, took most of an idle sharer's time.)
type pulse struct {
	*link
	conn    *dcConn
	pong    <-chan struct{} // nil: no ping is under way
	heard   time.Time       // when something came last, or nothing was waited for
	taken   uint64          // what the peer sent and took until then
	used    uint64          // data frames until then, of both sides
	rest    time.Duration   // the last one; 0: the connection was used since the last ping
	resting bool
}

// run watches until the link ends.
func (p *pulse) run() {
	timer := time.NewTimer(pulseTime)
	defer timer.Stop()
	for {
		select {
		case <-p.ending:
			if p.pong != nil {
				<-p.pong // the session is being closed
			}
			return
		case <-p.pong:
			p.heard, p.pong = time.Now(), nil
			continue
		case <-p.conn.stirred:
		case <-timer.C:
		}
		timer.Reset(p.beat())
	}
}

// beat looks at the connection, and returns when to look again.
func (p *pulse) beat() time.Duration {
	rested := p.resting
	p.resting = false
	p.conn.resting.Store(false)
	came := p.look()
	switch {
	case p.conn.buffered() > 0:
		limit := pathSilent
		if p.taken == 0 { // it may be negotiating still, when packets of its handshake were lost
			limit = p.path.t.config.Timeout
		}
		if p.silent() > limit {
			p.path.hears(false)
		}
		return pulseTime
	case p.pong != nil:
		if p.silent() > p.silence {
			p.end(ErrPeerLost)
		}
		return pulseTime
	}
	p.heard = time.Now()
	switch {
	case came && (!rested || p.rest == 0): // it is used, or has been asked
		return pulseTime
	case p.rest == 0: // what was going on is at its end, or broke off
		p.rest = restMin
	case came || !rested: // the peer has asked, or answered
		return p.doze()
	default:
		p.rest = min(2*p.rest, restMax)
	}
	p.pong = p.ping()
	return pulseTime
}

// look takes down what has happened since the last look, and reports whether the peer sent or took anything.
func (p *pulse) look() bool {
	if used := p.frames.data.Load(); used != p.used {
		p.used, p.rest = used, 0
	}
	taken := p.conn.moved()
	if int64(taken-p.taken) <= 0 { // less: somebody is writing at the moment
		return false
	}
	p.taken, p.heard = taken, time.Now()
	p.path.hears(true)
	return true
}

// doze waits until something is sent, or it is time to ask.
func (p *pulse) doze() time.Duration {
	p.conn.resting.Store(true)
	if p.conn.buffered() > 0 { // it was sent before that
		p.conn.resting.Store(false)
		return pulseTime
	}
	p.resting = true
	return p.untilAsked()
}

// untilAsked is about p.rest. Idle peers are asked all at once, which costs less than half of waking for each, and
// the two sides of a connection at different times, because who is asked need not ask.
func (p *pulse) untilAsked() time.Duration {
	shift := time.Duration(0)
	if p.incoming {
		shift = restMin / 2
	}
	now := time.Now()
	return now.Add(p.rest - shift).Round(restMin).Add(shift).Sub(now.Round(0))
}

// silent is how long nothing has come that was waited for, by the path there is.
func (p *pulse) silent() time.Duration {
	return min(time.Since(p.heard), p.path.age())
}
