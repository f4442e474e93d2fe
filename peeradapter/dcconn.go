package peeradapter

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/datachannel"
	"github.com/pion/webrtc/v4"
)

const (
	// messageSize is how much one message carries: as many full SCTP packets (of
	// 1156 bytes between two pions, 1160 with a browser) as stay under 32 KiB.
	messageSize = 28 * 1156
	// readSize is the largest message that we take: a shorter buffer would lose it.
	readSize = 64 << 10
)

// A dcConn is a net.Conn over one ordered, reliable, detached data channel. It
// differs from TCP in that:
//   - Close closes both directions: there is no half-close;
//   - what was written is delivered after Close only while the peer connection lives;
//   - the end of the peer connection is the reason that fail was told, or
//     whatever the channel says of it, which may be io.EOF.
type dcConn struct {
	channel     datachannel.ReadWriteCloserDeadliner
	buffered    func() uint64 // bytes that the peer has not acknowledged
	setLowWater func(uint64)
	addrs       [2]net.Addr // local, remote

	readMu sync.Mutex      // one reader at a time
	buf    *[readSize]byte // nil while there is nothing to read: an idle peer needs none
	unread []byte          // in buf

	deadlineMu sync.Mutex
	readTill   time.Time // zero: never

	writeMu   sync.Mutex // one writer at a time
	water     waterMark
	low       chan struct{}
	writeTill deadline

	read, written atomic.Uint64
	resting       atomic.Bool   // who watches wants to know when something is sent
	stirred       chan struct{} // tells them

	endOnce sync.Once
	ended   chan struct{} // closed when err is set
	err     error
}

// newDCConn detaches an open data channel.
func newDCConn(dc *webrtc.DataChannel, local, remote net.Addr) (*dcConn, error) {
	channel, err := dc.DetachWithDeadline()
	if err != nil {
		return nil, err
	}
	c := &dcConn{
		channel: channel, buffered: dc.BufferedAmount, setLowWater: dc.SetBufferedAmountLowThreshold, addrs: [2]net.Addr{local, remote},
		low: make(chan struct{}, 1), stirred: make(chan struct{}, 1), writeTill: newDeadline(), ended: make(chan struct{}),
	}
	c.water = newWaterMark(dc)
	dc.SetBufferedAmountLowThreshold(maxWater / 2)
	dc.OnBufferedAmountLow(c.wakeWriter)
	return c, nil
}

func (c *dcConn) wakeWriter() {
	select {
	case c.low <- struct{}{}:
	default:
	}
}

// Read reads what is left of the last message, or the next one.
func (c *dcConn) Read(p []byte) (int, error) {
	c.readMu.Lock()
	defer c.readMu.Unlock()
	if err := c.readable(); err != nil {
		return 0, err
	}
	if len(p) == 0 {
		return 0, nil
	}
	for len(c.unread) == 0 {
		n, err := c.receive(p)
		c.read.Add(uint64(n))
		if err != nil {
			if err = c.readError(err); err != nil {
				return 0, err
			}
			continue
		}
		if len(p) >= readSize && n > 0 {
			return n, nil
		}
		if c.buf != nil {
			c.unread = c.buf[:n]
		}
	}
	n := copy(p, c.unread)
	if c.unread = c.unread[n:]; len(c.unread) == 0 {
		c.drop()
	}
	return n, nil
}

// messageReads has what messages are read into.
var messageReads = sync.Pool{New: func() any { return new([readSize]byte) }}

// receive reads the next message, into p if any fits there and otherwise into buf. It
// waits without a buffer: a message stays in the channel as long as it is too long for who reads.
func (c *dcConn) receive(p []byte) (int, error) {
	if _, err := c.channel.Read(nil); err != nil && !errors.Is(err, io.ErrShortBuffer) {
		return 0, err
	}
	if len(p) >= readSize {
		return c.channel.Read(p)
	}
	c.buf = messageReads.Get().(*[readSize]byte)
	n, err := c.channel.Read(c.buf[:])
	if err != nil || n == 0 {
		c.drop()
	}
	return n, err
}

// drop lets go of buf.
func (c *dcConn) drop() {
	if c.buf != nil {
		messageReads.Put(c.buf)
		c.buf, c.unread = nil, nil
	}
}

// readable tells why nothing can be read: closed here, or past the deadline.
func (c *dcConn) readable() error {
	select {
	case <-c.ended:
		return c.err
	default:
	}
	c.deadlineMu.Lock()
	defer c.deadlineMu.Unlock()
	if !c.readTill.IsZero() && !time.Now().Before(c.readTill) {
		return os.ErrDeadlineExceeded
	}
	return nil
}

// readError makes of the channel's error what Read returns; nil: try again.
func (c *dcConn) readError(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		if err := c.readable(); err != nil {
			return err
		}
		// The channel's deadline fires late, after it was moved: set it again.
		return c.setChannelDeadline()
	}
	if errors.Is(err, io.ErrShortBuffer) {
		err = errMessageTooLong
	}
	c.fail(err)
	return c.err
}

// setChannelDeadline hands our deadline, or the end, on to a Read that waits in the channel.
func (c *dcConn) setChannelDeadline() error {
	c.deadlineMu.Lock()
	defer c.deadlineMu.Unlock()
	till := c.readTill
	select {
	case <-c.ended:
		till = time.Unix(1, 0)
	default:
	}
	return c.channel.SetReadDeadline(till)
}

// Write returns when all of p is queued in the channel.
func (c *dcConn) Write(p []byte) (int, error) {
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	written := 0
	for {
		if err := c.awaitRoom(); err != nil {
			return written, err
		}
		if written == len(p) {
			if c.resting.Load() {
				put(c.stirred, struct{}{})
			}
			return written, nil
		}
		n, err := c.channel.Write(p[written:min(len(p), written+messageSize)])
		written += n
		c.written.Add(uint64(n))
		if err != nil {
			c.fail(err)
			return written, c.writeError()
		}
	}
}

func (c *dcConn) writeError() error {
	if errors.Is(c.err, io.EOF) {
		return io.ErrClosedPipe
	}
	return c.err
}

// awaitRoom waits until there is room in the queue.
func (c *dcConn) awaitRoom() error {
	passed := c.writeTill.passed()
	for {
		select {
		case <-c.ended:
			return c.writeError()
		case <-passed:
			return os.ErrDeadlineExceeded
		default:
		}
		if !c.water.reached(c.written.Load(), c.buffered()) {
			return nil
		}
		low := c.water.high / 2
		if c.setLowWater(low); c.buffered() <= low {
			continue // without an event: it came before the threshold
		}
		select {
		case <-c.ended:
		case <-passed:
		case <-c.low:
		}
	}
}

// fail ends the connection: readers and writers return err from now on.
func (c *dcConn) fail(err error) {
	c.endOnce.Do(func() {
		c.err = err
		close(c.ended)
		_ = c.setChannelDeadline()
	})
}

// Close ends the connection. What was written is still delivered as long as the
// peer connection lives.
func (c *dcConn) Close() error {
	c.fail(net.ErrClosed)
	return c.channel.Close()
}

// reason tells why the connection ended without our doing.
func (c *dcConn) reason() error {
	select {
	case <-c.ended:
		if errors.Is(c.err, ErrFlood) {
			return c.err
		}
	default:
	}
	return ErrPeerClosed
}

// drain waits until the peer has all that was written, or one of the channels
// says that it is late or that the association is gone. No Write may be under
// way and the channel not be closed. SCTP acknowledges every second packet at
// once and a single one after 200 ms, so that nudge is sent every 10 ms.
func (c *dcConn) drain(nudge []byte, late <-chan time.Time, gone <-chan struct{}) {
	c.setLowWater(0)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for c.buffered() > 0 {
		select {
		case <-c.low:
		case <-tick.C:
			_, _ = c.channel.Write(nudge)
		case <-late:
			return
		case <-gone:
			return
		}
	}
}

// moved counts the bytes that the peer sent or acknowledged: while it grows, the peer lives.
func (c *dcConn) moved() uint64 { return c.read.Load() + c.written.Load() - c.buffered() }

// LocalAddr returns the address of this peer.
func (c *dcConn) LocalAddr() net.Addr { return c.addrs[0] }

// RemoteAddr returns the address of the other peer.
func (c *dcConn) RemoteAddr() net.Addr { return c.addrs[1] }

// SetDeadline sets the read and the write deadline.
func (c *dcConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// SetReadDeadline sets when Read fails with os.ErrDeadlineExceeded; zero: never.
func (c *dcConn) SetReadDeadline(t time.Time) error {
	c.deadlineMu.Lock()
	c.readTill = t
	c.deadlineMu.Unlock()
	return c.setChannelDeadline()
}

// SetWriteDeadline sets when Write fails with os.ErrDeadlineExceeded; zero: never.
func (c *dcConn) SetWriteDeadline(t time.Time) error {
	c.writeTill.set(t)
	return nil
}

var errMessageTooLong = fmt.Errorf("%w: a message of more than 64 KiB", ErrFlood)
