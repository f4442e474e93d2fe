package peeradapter

import (
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/hashicorp/yamux"

	"github.com/loveseat-db/loveseat/share"
)

var _ share.Conn = (*stream)(nil)

// A stream is one connection as callers see it. It differs from yamux's in that
// it passes for a TCP connection: reads end when it is closed here, deadlines hold
// also when there is something to read or room to write, and the loss of the
// peer is an error instead of an orderly end.
type stream struct {
	*yamux.Stream
	link      *link
	closed    atomic.Bool
	readTill  atomic.Int64 // unix nanoseconds; 0: never
	writeTill atomic.Int64
	release   func() // called once, when closed
}

// Peer returns the address of the peer, as verified by its signed signals.
func (s *stream) Peer() string { return s.link.peer }

// Route tells how the packets travel: "host", "srflx" or "relay".
func (s *stream) Route() string { return s.link.route() }

// Welcome is called when the peer was let in, see [share.Share.ServeOn].
func (s *stream) Welcome() { s.link.letIn() }

// Asking is called when the owner is asked about the peer.
func (s *stream) Asking() {
	if v := s.link.visit; v != nil {
		v.asking()
	}
}

// LocalAddr returns this peer's address.
func (s *stream) LocalAddr() net.Addr { return s.link.conn.LocalAddr() }

// RemoteAddr returns the peer's address.
func (s *stream) RemoteAddr() net.Addr { return s.link.conn.RemoteAddr() }

func (s *stream) Read(p []byte) (int, error) {
	if err := s.usable(&s.readTill); err != nil {
		return 0, err
	}
	if len(p) == 0 {
		return 0, nil
	}
	n, err := s.Stream.Read(p)
	s.link.frames.unread.read(s.StreamID(), n)
	return n, s.explain(err)
}

func (s *stream) Write(p []byte) (int, error) {
	if err := s.usable(&s.writeTill); err != nil {
		return 0, err
	}
	// In pieces, each one frame: between them come those of other streams, and the reader gets a frame as a whole.
	for written := 0; ; {
		n, err := s.Stream.Write(p[written:min(len(p), written+framePiece)])
		written += n
		if err != nil || written == len(p) {
			return written, s.explain(err)
		}
	}
}

func (s *stream) usable(till *atomic.Int64) error {
	if s.closed.Load() {
		return net.ErrClosed
	}
	if t := till.Load(); t != 0 && time.Now().UnixNano() >= t {
		return os.ErrDeadlineExceeded
	}
	return nil
}

// explain makes of yamux's error what a net.Conn returns.
func (s *stream) explain(err error) error {
	var timeout net.Error
	switch {
	case err == nil:
		return nil
	case s.closed.Load():
		return net.ErrClosed
	case errors.As(err, &timeout) && timeout.Timeout():
		return os.ErrDeadlineExceeded
	case errors.Is(err, io.EOF):
		return s.eof()
	}
	return s.link.cause(err)
}

// eof is the end of what the peer wrote, unless the link was lost: yamux tells no difference.
func (s *stream) eof() error {
	if err := s.link.cause(io.EOF); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return io.EOF
}

// Close ends the stream in both directions, after what was written.
func (s *stream) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	err := s.Stream.Close()
	_ = s.Stream.SetReadDeadline(time.Unix(1, 0)) // ends a Read that waits
	s.link.frames.unread.left(s.StreamID(), false)
	if s.release != nil {
		s.release()
	}
	return err
}

// SetDeadline sets the read and the write deadline.
func (s *stream) SetDeadline(t time.Time) error {
	return errors.Join(s.SetReadDeadline(t), s.SetWriteDeadline(t))
}

// SetReadDeadline sets when Read fails with os.ErrDeadlineExceeded; zero: never.
func (s *stream) SetReadDeadline(t time.Time) error {
	s.readTill.Store(unixNano(t))
	if err := s.Stream.SetReadDeadline(t); err != nil || !s.closed.Load() {
		return err
	}
	return s.Stream.SetReadDeadline(time.Unix(1, 0)) // Close was first
}

// SetWriteDeadline sets when Write fails with os.ErrDeadlineExceeded; zero: never.
// It does not end a Write that waits for a congested connection rather than for the reader.
func (s *stream) SetWriteDeadline(t time.Time) error {
	s.writeTill.Store(unixNano(t))
	return s.Stream.SetWriteDeadline(t)
}

func unixNano(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}
