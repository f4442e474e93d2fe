package peeradapter

import (
	"encoding/binary"
	"sync"
	"sync/atomic"
)

// How many bytes of the streams that a peer has opened may wait to be read, together. A stream by itself is
// bounded by its window ([streamQueue]), but there may be hundreds, and a stream that is closed here
// takes what its peer sends until the peer closes it too.
const (
	maxUnread   = 64 << 20
	maxUnproven = 16 << 20 // of a peer that nobody has let in yet
)

const (
	flagSYN = 1
	flagFIN = 4
	flagRST = 8
)

// An unread counts what a peer has sent in the streams that it has opened and nobody has read.
type unread struct {
	limit atomic.Int64

	mu      sync.Mutex
	streams map[uint32]*unreadStream
	total   int64
}

// An unreadStream is forgotten when both sides have closed it.
type unreadStream struct {
	bytes        int64
	theirs, ours bool // has been closed by that side
}

func newUnread() *unread {
	u := &unread{streams: map[uint32]*unreadStream{}}
	u.limit.Store(maxUnread)
	return u
}

// came notes the header of a frame that the peer has sent; false: it sends more than anybody reads.
func (u *unread) came(header []byte) bool {
	flags, id := binary.BigEndian.Uint16(header[2:]), binary.BigEndian.Uint32(header[4:])
	if header[1] != typeData && flags == 0 {
		return true
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	s := u.streams[id]
	if s == nil {
		if flags&flagSYN == 0 {
			return true // a stream of ours, or one that is gone
		}
		s = &unreadStream{}
		u.streams[id] = s
	}
	if header[1] == typeData {
		n := int64(binary.BigEndian.Uint32(header[8:]))
		s.bytes += n
		u.total += n
	}
	if flags&(flagFIN|flagRST) != 0 {
		s.theirs = true
		u.settle(id, s)
	}
	return u.total <= u.limit.Load()
}

// read notes that bytes of a stream were read.
func (u *unread) read(id uint32, n int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if s := u.streams[id]; s != nil {
		s.bytes -= int64(n)
		u.total -= int64(n)
	}
}

// left notes that a stream was closed here; reset: for the peer too.
func (u *unread) left(id uint32, reset bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if s := u.streams[id]; s != nil {
		s.ours, s.theirs = true, s.theirs || reset
		u.settle(id, s)
	}
}

// settle forgets a stream that both sides have closed. u.mu is held.
func (u *unread) settle(id uint32, s *unreadStream) {
	if s.theirs && s.ours {
		u.total -= s.bytes
		delete(u.streams, id)
	}
}
