package peeradapter

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/flynn/noise"
)

// A MessageChannel carries binary messages both ways, in order and without loss:
// what a worker, a pipe, a WebSocket or any foreign bus gives.
//
// [NewMessageConn] makes a connection of it. Then a message of no bytes means that
// its sender writes no more, and the others are pieces of a byte stream of at most 64 KiB.
type MessageChannel interface {
	// Send sends a message, which is the channel's from then on. It may wait
	// while the other side is busy; Close ends that.
	Send(msg []byte) error
	// Messages gives the messages of the other side. It is closed when no more
	// come. A channel holds the other side up rather than keep many that nobody takes.
	Messages() <-chan []byte
	// Close ends both directions. What was sent should still arrive.
	Close() error
}

const (
	maxMessage   = 64 << 10 // of the other side; a longer one ends the connection
	messagePiece = 32 << 10 // what we send at most
	messageQueue = 4        // messages between a writer and Send
)

// A messageConn is a net.Conn over a message channel. It differs from TCP in that:
//   - Close waits, for two seconds at most, until all that was written is sent;
//   - Read fails with io.ErrUnexpectedEOF if the other side did not close in order;
//   - its addresses mean nothing.
type messageConn struct {
	channel       MessageChannel
	send, receive *noise.CipherState // nil: messages are as they are

	readMu   sync.Mutex // one reader at a time
	unread   []byte
	readErr  error
	readTill deadline

	writeMu   sync.Mutex // one writer at a time
	ended     bool       // by CloseWrite
	out       chan []byte
	writeTill deadline

	closeOnce sync.Once
	closed    chan struct{} // ends Read and Write
	stop      chan struct{} // ends pump
	pumped    chan struct{} // closed when nothing more is sent, after sendErr was set
	sendErr   error
}

// NewMessageConn makes a connection of a message channel, which it owns: closing
// one closes the other.
func NewMessageConn(c MessageChannel) net.Conn { return newMessageConn(c, nil, nil) }

// newMessageConn encrypts what is sent and decrypts what is received, if there are keys.
func newMessageConn(c MessageChannel, send, receive *noise.CipherState) *messageConn {
	m := &messageConn{
		channel: c, send: send, receive: receive, out: make(chan []byte, messageQueue), readTill: newDeadline(), writeTill: newDeadline(),
		closed: make(chan struct{}), stop: make(chan struct{}), pumped: make(chan struct{}),
	}
	go m.pump()
	return m
}

// pump sends what is written, so that a Write can give up waiting while Send cannot.
func (m *messageConn) pump() {
	defer close(m.pumped)
	for {
		select {
		case msg := <-m.out:
			last := len(msg) == 0
			if m.sendErr = m.transmit(msg); m.sendErr != nil || last {
				return
			}
		case <-m.stop:
			return
		}
	}
}

func (m *messageConn) transmit(msg []byte) (err error) {
	if m.send != nil {
		if msg, err = m.send.Encrypt(make([]byte, 0, len(msg)+16), nil, msg); err != nil {
			return err
		}
	}
	return m.channel.Send(msg)
}

// Read reads what is left of the last message, or the next one.
func (m *messageConn) Read(p []byte) (int, error) {
	m.readMu.Lock()
	defer m.readMu.Unlock()
	passed := m.readTill.passed()
	select {
	case <-m.closed:
		return 0, net.ErrClosed
	case <-passed:
		return 0, os.ErrDeadlineExceeded
	default:
	}
	if len(p) == 0 {
		return 0, nil
	}
	if len(m.unread) == 0 && m.readErr == nil {
		select {
		case msg, ok := <-m.channel.Messages():
			m.take(msg, ok)
		case <-m.closed:
			return 0, net.ErrClosed
		case <-passed:
			return 0, os.ErrDeadlineExceeded
		}
	}
	if len(m.unread) == 0 {
		return 0, m.readErr
	}
	n := copy(p, m.unread)
	m.unread = m.unread[n:]
	return n, nil
}

func (m *messageConn) take(msg []byte, ok bool) {
	if ok && m.receive != nil && len(msg) <= maxMessage {
		var err error
		if msg, err = m.receive.Decrypt(msg[:0], nil, msg); err != nil {
			m.readErr = errTampered
			return
		}
	}
	switch {
	case !ok:
		m.readErr = io.ErrUnexpectedEOF
		if c, is := m.channel.(interface{ Err() error }); is && c.Err() != nil {
			m.readErr = c.Err()
		}
	case len(msg) == 0:
		m.readErr = io.EOF
	case len(msg) > maxMessage:
		m.readErr = errMessageTooLong
	default:
		m.unread = msg
	}
}

// Write returns when all of p is queued, a few messages of it, or sent.
func (m *messageConn) Write(p []byte) (int, error) {
	m.writeMu.Lock()
	defer m.writeMu.Unlock()
	if m.ended {
		return 0, net.ErrClosed
	}
	if len(p) == 0 {
		return 0, m.put(nil, 0)
	}
	for written := 0; written < len(p); {
		piece := p[written:min(len(p), written+messagePiece)]
		if err := m.put(bytes.Clone(piece), len(piece)); err != nil {
			return written, err
		}
		written += len(piece)
	}
	return len(p), nil
}

// put queues a message, unless size is 0: then it tells only why it could not.
func (m *messageConn) put(msg []byte, size int) error {
	passed := m.writeTill.passed()
	select {
	case <-m.closed:
		return net.ErrClosed
	case <-passed:
		return os.ErrDeadlineExceeded
	case <-m.pumped:
		return fmt.Errorf("peeradapter: send: %w", m.sendErr)
	default:
	}
	if size == 0 {
		return nil
	}
	select {
	case m.out <- msg:
		return nil
	case <-m.closed:
		return net.ErrClosed
	case <-passed:
		return os.ErrDeadlineExceeded
	case <-m.pumped:
		return fmt.Errorf("peeradapter: send: %w", m.sendErr)
	}
}

// CloseWrite tells the other side that no more comes, and returns when that and
// all that was written is sent, or the deadline for writing passes.
func (m *messageConn) CloseWrite() error { return m.closeWrite(nil) }

func (m *messageConn) closeWrite(late <-chan time.Time) error {
	m.writeMu.Lock()
	defer m.writeMu.Unlock()
	passed := m.writeTill.passed()
	if !m.ended {
		m.ended = true
		select {
		case m.out <- []byte{}:
		case <-m.pumped:
		case <-passed:
			return os.ErrDeadlineExceeded
		case <-late:
			return os.ErrDeadlineExceeded
		}
	}
	select {
	case <-m.pumped:
		return m.sendErr
	case <-passed:
		return os.ErrDeadlineExceeded
	case <-late:
		return os.ErrDeadlineExceeded
	}
}

// Close sends what was written and closes the channel. A Read or Write that waits ends.
func (m *messageConn) Close() error {
	var err error
	m.closeOnce.Do(func() {
		close(m.closed)
		late := time.NewTimer(drainLimit)
		defer late.Stop()
		_ = m.closeWrite(late.C)
		close(m.stop)
		err = m.channel.Close()
		<-m.pumped
	})
	return err
}

// NetConn returns the connection below the channel, nil if it has none.
func (m *messageConn) NetConn() net.Conn {
	if c, ok := m.channel.(interface{ NetConn() net.Conn }); ok {
		return c.NetConn()
	}
	return nil
}

// SetDeadline sets the read and the write deadline.
func (m *messageConn) SetDeadline(t time.Time) error {
	m.readTill.set(t)
	m.writeTill.set(t)
	return nil
}

// SetReadDeadline sets when Read fails with os.ErrDeadlineExceeded; zero: never.
func (m *messageConn) SetReadDeadline(t time.Time) error {
	m.readTill.set(t)
	return nil
}

// SetWriteDeadline sets when Write fails with os.ErrDeadlineExceeded; zero: never.
func (m *messageConn) SetWriteDeadline(t time.Time) error {
	m.writeTill.set(t)
	return nil
}

// LocalAddr returns an address that means nothing.
func (m *messageConn) LocalAddr() net.Addr { return messageAddr{} }

// RemoteAddr returns an address that means nothing.
func (m *messageConn) RemoteAddr() net.Addr { return messageAddr{} }

type messageAddr struct{}

func (messageAddr) Network() string { return "messages" }
func (messageAddr) String() string  { return "messages" }
