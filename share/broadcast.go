package share

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"iter"
	"net/http"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/couchhttp"
	"github.com/loveseat-db/loveseat/internal/fair"
)

// A Message is a small ephemeral message among those who have a share open
// (presence, cursors). It is kept nowhere: who is not listening, or listens too
// slowly, does not get it. The sharer passes messages on; from is what it has verified.
type Message struct {
	From    string          `json:"from"`    // peer id
	Message json.RawMessage `json:"message"` // any JSON, at most 16 KiB
}

// A hearer gets the messages of a share: an opener, or a loop in this process.
type hearer struct {
	address string // of the opener's process; "": here
	queue   chan Message
}

const (
	hearerQueue      = 64 // messages; then the oldest of whoever has sent most is lost
	messageHeartbeat = 15 * time.Second
	messageSilence   = 3 * messageHeartbeat // then the sharer is taken for lost
)

// Broadcast sends v, any value whose JSON is at most 16 KiB, to all who have the
// share open and listen ([Remote.Messages]). It waits for nobody.
func (s *Share) Broadcast(v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(text) > maxBroadcast {
		return errBroadcast
	}
	s.messages.broadcast(Message{s.peer.ID(), text}, "")
	return nil
}

var errBroadcast = couch.TooLarge("too_large", "A broadcast message is limited to 16 KiB.")

// Messages yields what openers broadcast from now on, until ctx or the share
// ends. Of 64 messages that wait the oldest is dropped for a new one.
func (s *Share) Messages(ctx context.Context) iter.Seq[Message] {
	return func(yield func(Message) bool) {
		h, leave := s.messages.hear("")
		defer leave()
		for {
			select {
			case m := <-h.queue:
				if !yield(m) {
					return
				}
			case <-ctx.Done():
				return
			case <-s.ctx.Done():
				return
			}
		}
	}
}

// hear adds a hearer, until leave is called.
func (m *messages) hear(address string) (h *hearer, leave func()) {
	h = &hearer{address, make(chan Message, hearerQueue)}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.hearers == nil {
		m.hearers = map[*hearer]struct{}{}
	}
	m.hearers[h] = struct{}{}
	return h, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.hearers, h)
	}
}

// broadcast gives a message to all hearers but those in the process that it is from.
func (m *messages) broadcast(msg Message, from string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for h := range m.hearers {
		if h.address == from {
			continue
		}
		select {
		case h.queue <- msg:
			continue
		default:
		}
		h.squeeze(msg)
	}
}

// squeeze adds a message to a queue that is full: newer presence counts for more, but whoever sends
// most loses its own. m.mu is held, so nobody else sends.
func (h *hearer) squeeze(msg Message) {
	var waiting []Message
	for more := true; more; {
		select {
		case m := <-h.queue:
			waiting = append(waiting, m)
		default:
			more = false
		}
	}
	if waiting = append(waiting, msg); len(waiting) > hearerQueue {
		waiting = fair.Drop(waiting, func(m Message) fair.Claim { return fair.Claim{Group: m.From} })
	}
	for _, m := range waiting {
		h.queue <- m
	}
}

// serveBroadcast answers POST /_broadcast.
func (s *Share) serveBroadcast(w http.ResponseWriter, r *http.Request, from RemoteInfo, address string) {
	body, err := readMessage(w, r, maxBroadcast)
	if err != nil {
		couchhttp.WriteError(w, couch.AsError(err))
		return
	}
	if r.Context().Err() != nil { // revoked while it was read
		return
	}
	s.messages.broadcast(Message{from.Peer, body}, address)
	couchhttp.WriteJSON(w, http.StatusAccepted, []byte(`{"ok":true}`+"\n"))
}

// serveHearer answers GET /_broadcast, until the opener goes away or may not listen any more.
func (s *Share) serveHearer(w http.ResponseWriter, r *http.Request, address string) {
	h, leave := s.messages.hear(address)
	defer leave()
	out := newLines(w)
	beat := time.NewTicker(messageHeartbeat)
	defer beat.Stop()
	for {
		var err error
		select {
		case <-r.Context().Done():
			var e *couch.Error
			if errors.As(context.Cause(r.Context()), &e) {
				_ = out.fail(e)
			}
			return
		case msg := <-h.queue:
			var text []byte
			if text, err = json.Marshal(msg); err == nil {
				err = out.write(text)
			}
		case <-beat.C:
			err = out.write(nil)
		}
		if err != nil {
			return
		}
	}
}

// Broadcast sends v, any value whose JSON is at most 16 KiB, to the sharer and to
// all others who have the share open and listen; not to this process itself.
func (r *Remote) Broadcast(ctx context.Context, v any) error {
	resp, err := r.message(ctx, http.MethodPost, "/_broadcast", v)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// Messages yields what the sharer and the other openers broadcast from now on,
// until ctx ends, the sharer refuses, or the share is gone: the last thing it
// yields is why. It connects again when the connection is lost; what is sent in
// the meantime is lost, and so is what comes faster than the loop takes it.
func (r *Remote) Messages(ctx context.Context) iter.Seq2[Message, error] {
	return func(yield func(Message, error) bool) {
		for wait := redialMin; ; wait = min(2*wait, redialMax) {
			heard := false
			more, err := r.hear(ctx, func(m Message) bool { heard = true; return yield(m, nil) })
			switch {
			case !more:
				return
			case ctx.Err() != nil:
				err = ctx.Err()
			case permanent(err) || errors.Is(err, ErrClosed):
			default:
				if heard {
					wait = redialMin
				}
				if pause(ctx, max(jitter(wait), couch.RetryAfter(err))) {
					continue
				}
				err = ctx.Err()
			}
			yield(Message{}, err)
			return
		}
	}
}

var errSharerSilent = errors.New("share: the sharer is silent")

// hear listens on one connection. more is false when the loop has been left.
func (r *Remote) hear(ctx context.Context, yield func(Message) bool) (more bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	resp, err := r.message(ctx, http.MethodGet, "/_broadcast", nil)
	if err != nil {
		return true, err
	}
	defer resp.Body.Close()
	silence := time.AfterFunc(messageSilence, func() { cancel(errSharerSilent) })
	defer silence.Stop()
	lines := lineScanner(resp.Body)
	for lines.Scan() {
		silence.Reset(messageSilence)
		line := lines.Bytes()
		if len(line) == 0 {
			continue
		}
		if err := parseFailure(line); err != nil {
			return true, err
		}
		var m Message
		if err := json.Unmarshal(line, &m); err != nil {
			return true, err
		}
		m.Message = bytes.Clone(m.Message)
		silence.Stop() // the loop may take its time
		if !yield(m) {
			return false, nil
		}
		silence.Reset(messageSilence)
	}
	return true, cmp.Or(context.Cause(ctx), lineError(lines))
}
