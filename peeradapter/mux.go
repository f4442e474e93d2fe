package peeradapter

import (
	"bytes"
	"encoding/binary"
	"log"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/yamux"
)

// What one connection may carry.
const (
	maxStreams  = 128     // accepted and not yet closed; more wait in the backlog
	backlog     = 256     // streams that wait to be accepted
	maxPings    = 100     // in a second
	streamQueue = 2 << 20 // bytes in a stream that its reader has not read: enough for 40 MB/s at 50 ms
)

func muxConfig(l *slog.Logger) *yamux.Config {
	c := yamux.DefaultConfig()
	c.AcceptBacklog = backlog
	c.MaxStreamWindowSize = streamQueue
	c.EnableKeepAlive = false // its ping does not know of congestion: see link.watch
	c.ConnectionWriteTimeout = time.Hour
	c.StreamOpenTimeout = 0
	c.StreamCloseTimeout = 30 * time.Second
	c.LogOutput = nil
	c.Logger = slogLogger(l)
	return c
}

// slogLogger returns a logger of lines, for debugging.
func slogLogger(l *slog.Logger) *log.Logger { return log.New(slogWriter{l}, "", 0) }

// A slogWriter logs lines.
type slogWriter struct{ log *slog.Logger }

func (w slogWriter) Write(line []byte) (int, error) {
	w.log.Debug(string(bytes.TrimSpace(line)))
	return len(line), nil
}

// yamux's frames have a header of version, type, flags (2), stream (4) and length (4 bytes).
const (
	frameHeader = 12
	framePiece  = messageSize - frameHeader // of a stream's data that fills a message
	typeData    = 0
	typePing    = 2
	typeGoAway  = 3
)

// goAway is the frame for "no more streams", sent by who closes.
var goAway = []byte{0, typeGoAway, frameHeader - 1: 0}

// A framer is what lies between yamux and the carrier. It sends each frame
// in one piece, where yamux writes the header of a data frame and its body one
// after the other; and it counts pings, for each of which yamux starts a goroutine.
type framer struct {
	carrier
	buf  *[messageSize]byte // holds a header; nil: none
	held int                // bytes of it

	header [frameHeader]byte // being read
	have   int               // bytes of it
	body   uint32            // bytes of the frame's body that are still to come
	unread *unread
	data   atomic.Uint64 // frames of streams that were read and written
	pings  int           // since
	since  time.Time
}

// Read reads frames for yamux and fails with ErrFlood if there are too many pings, or too much that nobody reads.
func (f *framer) Read(p []byte) (int, error) {
	n, err := f.carrier.Read(p)
	if err == nil && !f.inspect(p[:n]) {
		f.fail(ErrFlood)
		return 0, ErrFlood
	}
	return n, err
}

// inspect follows the frames that are read; false: the peer floods us.
func (f *framer) inspect(p []byte) bool {
	for len(p) > 0 {
		if f.body > 0 {
			n := min(uint32(len(p)), f.body)
			f.body, p = f.body-n, p[n:]
			continue
		}
		n := copy(f.header[f.have:], p)
		if f.have, p = f.have+n, p[n:]; f.have < frameHeader {
			return true
		}
		f.have = 0
		if !f.unread.came(f.header[:]) {
			return false
		}
		switch f.header[1] {
		case typeData:
			f.data.Add(1)
			f.body = binary.BigEndian.Uint32(f.header[8:])
		case typePing:
			if f.flooded() {
				return false
			}
		}
	}
	return true
}

func (f *framer) flooded() bool {
	if now := time.Now(); now.Sub(f.since) > time.Second {
		f.since, f.pings = now, 0
	}
	f.pings++
	return f.pings > maxPings
}

// messagePool has what framers hold headers in: an idle peer needs none.
var messagePool = sync.Pool{New: func() any { return new([messageSize]byte) }}

func (f *framer) Write(p []byte) (int, error) {
	if f.held == 0 && startsData(p) {
		f.data.Add(1)
		f.buf = messagePool.Get().(*[messageSize]byte)
		f.held = copy(f.buf[:], p)
		return len(p), nil
	}
	if f.held == 0 {
		f.notice(p)
		return f.carrier.Write(p)
	}
	first := copy(f.buf[f.held:], p)
	_, err := f.carrier.Write(f.buf[:f.held+first])
	messagePool.Put(f.buf)
	f.buf, f.held = nil, 0
	if err != nil || first == len(p) {
		return first, err
	}
	n, err := f.carrier.Write(p[first:])
	return first + n, err
}

// notice takes note of the end of a stream that yamux writes.
func (f *framer) notice(p []byte) {
	if len(p) != frameHeader {
		return
	}
	if flags := binary.BigEndian.Uint16(p[2:]); flags&(flagFIN|flagRST) != 0 {
		f.unread.left(binary.BigEndian.Uint32(p[4:]), flags&flagRST != 0)
	}
}

// Close stops reading and writing, but leaves the connection open: a closed
// channel does not tell what the peer has acknowledged, see carrier.linger.
func (f *framer) Close() error {
	f.fail(net.ErrClosed)
	return nil
}

// startsData reports whether p is the header of a data frame whose body follows.
func startsData(p []byte) bool {
	return len(p) == frameHeader && p[1] == typeData && binary.BigEndian.Uint32(p[8:]) > 0
}
