package peeradapter

import (
	"context"
	"errors"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/loveseat-db/loveseat/share"
)

// A meddler changes the signals that a peer sends, as only someone could who has its key.
type meddler struct {
	share.Signaler
	edit func(in inbound) message
}

func (m meddler) Send(ctx context.Context, s share.Signal) error {
	in, err := readSignal(s)
	if err != nil {
		return err
	}
	s.Payload = m.edit(in).payload()
	return m.Signaler.Send(ctx, s)
}

var fingerprintForm = regexp.MustCompile(`a=fingerprint:sha-256 [0-9A-F:]+`)

// If the certificate of a connection is not that which the peer's signed signal
// names, as when somebody sits between the two on the network, no connection comes
// up, whichever side is deceived.
func TestAttackFingerprint(t *testing.T) {
	other := "a=fingerprint:sha-256 " + strings.TrimSuffix(strings.Repeat("AB:", 32), ":")
	for _, kind := range []string{kindOffer, kindAnswer} {
		t.Run(kind, func(t *testing.T) {
			changed := make(chan struct{}, 10)
			edit := func(in inbound) message {
				if in.Kind == kind {
					put(changed, struct{}{})
					in.SDP = fingerprintForm.ReplaceAllString(in.SDP, other)
				}
				return in.message
			}
			p := new(post)
			c := Config{Timeout: 5 * time.Second, Logger: discard}
			a, err := New(c, meddler{p.mailbox("a"), edit})
			must(t, err)
			defer a.Close()
			b, err := New(c, meddler{p.mailbox("b"), edit})
			must(t, err)
			defer b.Close()
			p.await(t, "a")
			p.await(t, "b")
			accepted := make(chan struct{}, 10)
			l := listen(t, b, "b")
			go func() {
				for {
					s, err := l.Accept()
					if err != nil {
						return
					}
					put(accepted, struct{}{})
					_ = s.Close()
				}
			}()
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			_, err = a.DialContext(ctx, "", "b")
			var failed *ConnectError
			if err == nil || !errors.As(err, &failed) && !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%v", err)
			}
			if len(changed) == 0 {
				t.Error("the attack did not take place")
			}
			if len(accepted) > 0 {
				t.Error("a stream of an unknown certificate was accepted")
			}
		})
	}
}

// Candidates of another session, a second answer, and an answer to nobody's offer change nothing.
func TestAttackForeignSession(t *testing.T) {
	p := new(post)
	a, b := newTransport(t, p, "a", Config{Logger: discard}), newTransport(t, p, "b", Config{Logger: discard})
	go echo(listen(t, b, "b"))
	c := dial(t, a, "b")
	must(t, ping(c))
	var sdp string
	done := make(chan struct{})
	p.mu.Lock()
	p.route = func(s share.Signal) []time.Duration {
		if in, err := readSignal(s); err == nil && in.Kind == kindOffer && sdp == "" {
			sdp = in.SDP
			close(done)
		}
		return []time.Duration{0}
	}
	p.mu.Unlock()
	x := newTransport(t, p, "x", Config{Logger: discard})
	must(t, ping(dial(t, x, "b")))
	<-done
	answer := message{SDP: strings.ReplaceAll(sdp, "actpass", "active")}
	for _, from := range []string{"a", "b", "x"} {
		for _, to := range []string{"a", "b"} {
			for _, kind := range []string{kindAnswer, kindCandidate, kindBye} {
				must(t, p.mailbox(from).Send(t.Context(), share.Signal{To: to, Session: "another", Kind: kind, Payload: answer.payload()}))
			}
		}
	}
	must(t, ping(c))
	must(t, ping(dial(t, a, "b")))

	// Nor while a connection is being made.
	held := make(chan share.Signal, 1)
	p.mu.Lock()
	p.route = func(s share.Signal) []time.Duration {
		if s.From == "y" && s.Kind == kindOffer {
			put(held, s)
			return nil
		}
		return []time.Duration{0}
	}
	p.mu.Unlock()
	y := newTransport(t, p, "y", Config{Logger: discard})
	dialled := make(chan error, 1)
	go func() {
		c, err := y.DialContext(t.Context(), "", "b")
		if err == nil {
			err = ping(c)
		}
		dialled <- err
	}()
	offer := <-held
	for _, kind := range []string{kindAnswer, kindCandidate, kindBye} {
		must(t, p.mailbox("b").Send(t.Context(), share.Signal{To: "y", Session: "another", Kind: kind, Payload: answer.payload()}))
	}
	p.deliver(offer)
	must(t, <-dialled)
}
