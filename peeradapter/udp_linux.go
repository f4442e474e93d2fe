package peeradapter

import (
	"encoding/binary"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"github.com/pion/transport/v5"
	"golang.org/x/sys/unix"
)

// A udpConn is a UDP socket that hands many packets at a time to the system and
// takes many at a time from it: generic segmentation and receive offload,
// udp(7) UDP_SEGMENT and UDP_GRO. A data channel is thousands of packets of one size to
// one address, and system calls were a quarter of their cost.
//
// pion reads with one goroutine and uses ReadFromAddrPort and WriteToAddrPort
// where they exist (ice.AddrPortReaderWriter).
type udpConn struct {
	*net.UDPConn

	readMu sync.Mutex
	raw    syscall.RawConn
	ready  func(fd uintptr) bool
	waited bool // the system says that there are packets
	poll   [1]unix.PollFd
	buf    *[readBatch]byte // one read from the system; nil while we wait for packets
	oob    [64]byte
	rest   []byte // packets in buf that are not yet read
	size   int    // of each but the last
	from   netip.AddrPort

	mu      sync.Mutex
	room    sync.Cond // there are less than maxTrains
	trains  []*train  // waiting to be sent
	sending bool
	closed  bool
	wake    chan struct{}
	stopped chan struct{} // closed when send has ended; nil: it was never needed
	plain   atomic.Bool   // the system refuses trains
}

// gatherTime is how long a train of bulk data waits for more packets: an idle
// processor would send each packet alone. It saves a fifth of the cost of a byte.
const gatherTime = 40 * time.Microsecond

const (
	readBatch    = 64 << 10
	trainBytes   = 63 << 10 // less than the largest IP packet
	trainPackets = 64       // UDP_MAX_SEGMENTS before Linux 6.9
	maxTrains    = 8        // then writers wait
	smallPacket  = 1000     // such do not belong to bulk data and are sent at once
)

// A train is packets to one address, all but the last of one size.
type train struct {
	to    netip.AddrPort
	size  int
	count int
	full  bool // the last is shorter
	data  []byte
}

func newUDPConn(c *net.UDPConn) transport.UDPConn {
	if !offload(c) {
		return c
	}
	u := &udpConn{UDPConn: c, wake: make(chan struct{}, 1)}
	u.room.L = &u.mu
	u.raw, _ = c.SyscallConn() // offload had it
	u.ready = u.isReady
	return u
}

// offload asks the system to hand us several packets at a time; false: it cannot.
func offload(c *net.UDPConn) bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return false
	}
	cerr := raw.Control(func(fd uintptr) {
		if err = unix.SetsockoptInt(int(fd), unix.SOL_UDP, unix.UDP_GRO, 1); err == nil {
			_, err = unix.GetsockoptInt(int(fd), unix.SOL_UDP, unix.UDP_SEGMENT)
		}
	})
	return err == nil && cerr == nil
}

// ReadFromAddrPort reads one packet.
func (u *udpConn) ReadFromAddrPort(p []byte) (int, netip.AddrPort, error) {
	u.readMu.Lock()
	defer u.readMu.Unlock()
	if len(u.rest) == 0 {
		if err := u.await(); err != nil {
			return 0, netip.AddrPort{}, err
		}
		n, oobn, _, from, err := u.ReadMsgUDPAddrPort(u.buf[:], u.oob[:])
		if err != nil {
			return 0, from, err
		}
		u.rest, u.from, u.size = u.buf[:n], from, n
		if size := segmentSize(u.oob[:oobn]); size > 0 {
			u.size = size
		}
	}
	packet := u.rest[:min(u.size, len(u.rest))]
	u.rest = u.rest[len(packet):]
	return copy(p, packet), u.from, nil
}

var readPool = sync.Pool{New: func() any { return new([readBatch]byte) }}

// await waits for packets without a buffer: a peer has a socket on each address of this
// machine, and most of them are idle.
func (u *udpConn) await() error {
	if u.buf != nil {
		readPool.Put(u.buf)
		u.buf = nil
	}
	u.waited = false
	if err := u.raw.Read(u.ready); err != nil {
		return err
	}
	u.buf = readPool.Get().(*[readBatch]byte)
	return nil
}

// isReady is asked before waiting and after it.
func (u *udpConn) isReady(fd uintptr) bool {
	if u.waited {
		return true
	}
	u.waited = true
	u.poll[0] = unix.PollFd{Fd: int32(fd), Events: unix.POLLIN}
	n, _ := unix.Poll(u.poll[:], 0)
	return n != 0
}

// segmentSize finds the size of the packets that were received together, 0 for one alone.
func segmentSize(oob []byte) int {
	for len(oob) >= unix.CmsgLen(4) {
		h := (*unix.Cmsghdr)(unsafe.Pointer(&oob[0]))
		if h.Level == unix.SOL_UDP && h.Type == unix.UDP_GRO {
			return int(binary.NativeEndian.Uint32(oob[unix.CmsgLen(0):]))
		}
		oob = oob[min(len(oob), max(int(h.Len), unix.CmsgSpace(0))):]
	}
	return 0
}

// ReadFrom reads one packet.
func (u *udpConn) ReadFrom(p []byte) (int, net.Addr, error) {
	n, from, err := u.ReadFromUDP(p)
	if from == nil {
		return n, nil, err
	}
	return n, from, err
}

// ReadFromUDP reads one packet.
func (u *udpConn) ReadFromUDP(p []byte) (int, *net.UDPAddr, error) {
	n, from, err := u.ReadFromAddrPort(p)
	if err != nil {
		return n, nil, err
	}
	return n, net.UDPAddrFromAddrPort(from), nil
}

// WriteTo sends a packet.
func (u *udpConn) WriteTo(p []byte, to net.Addr) (int, error) {
	if a, ok := to.(*net.UDPAddr); ok {
		return u.WriteToAddrPort(p, a.AddrPort())
	}
	return u.UDPConn.WriteTo(p, to)
}

// WriteToAddrPort sends a packet: at once if it is small and none is waiting,
// otherwise soon, together with its neighbours. As with any datagram, no error does not mean it
// arrived.
func (u *udpConn) WriteToAddrPort(p []byte, to netip.AddrPort) (int, error) {
	u.mu.Lock()
	if u.plain.Load() || len(p) < smallPacket && len(u.trains) == 0 && !u.sending {
		u.mu.Unlock()
		return u.WriteToUDPAddrPort(p, to)
	}
	defer u.mu.Unlock()
	for len(u.trains) >= maxTrains && !u.closed {
		u.room.Wait()
	}
	if u.closed {
		return 0, net.ErrClosed
	}
	u.add(p, to)
	if u.stopped == nil {
		u.stopped = make(chan struct{})
		go u.send(u.stopped)
	}
	put(u.wake, struct{}{})
	return len(p), nil
}

// add appends a packet to the last train to its address, or to a new one. u.mu is held.
func (u *udpConn) add(p []byte, to netip.AddrPort) {
	var t *train
	for _, last := range u.trains {
		if last.to == to {
			t = last
		}
	}
	if t == nil || t.full || len(p) > t.size || len(t.data)+len(p) > trainBytes {
		t = trainPool.Get().(*train)
		*t = train{to: to, size: len(p), data: t.data[:0]}
		u.trains = append(u.trains, t)
	}
	t.data = append(t.data, p...)
	t.count++
	t.full = len(p) < t.size || t.count == trainPackets
}

var trainPool = sync.Pool{New: func() any { return &train{data: make([]byte, 0, trainBytes)} }}

// send sends the trains until the socket is closed.
func (u *udpConn) send(stopped chan<- struct{}) {
	defer close(stopped)
	var taken []*train
	var last time.Time
	for range u.wake {
		if time.Since(last) < 4*gatherTime {
			time.Sleep(gatherTime)
		}
		last = time.Now()
		u.mu.Lock()
		taken, u.trains = u.trains, taken[:0]
		closed := u.closed
		u.sending = len(taken) > 0
		u.room.Broadcast()
		u.mu.Unlock()
		for _, t := range taken {
			u.sendTrain(t)
			trainPool.Put(t)
		}
		u.mu.Lock()
		u.sending = false
		u.mu.Unlock()
		if closed {
			return
		}
	}
}

func (u *udpConn) sendTrain(t *train) {
	if t.count > 1 && !u.plain.Load() {
		oob := segmentControl(t.size)
		if _, _, err := u.WriteMsgUDPAddrPort(t.data, oob[:], t.to); err == nil {
			return
		}
		u.plain.Store(true) // no checksum offload, or a path too narrow: packet by packet
	}
	for rest := t.data; len(rest) > 0; {
		n := min(t.size, len(rest))
		_, _ = u.WriteToUDPAddrPort(rest[:n], t.to)
		rest = rest[n:]
	}
}

// segmentControl is the control message that has the system cut a train into packets.
func segmentControl(size int) (oob [24]byte) {
	h := (*unix.Cmsghdr)(unsafe.Pointer(&oob[0]))
	h.Level, h.Type = unix.SOL_UDP, unix.UDP_SEGMENT
	h.SetLen(unix.CmsgLen(2))
	binary.NativeEndian.PutUint16(oob[unix.CmsgLen(0):], uint16(size))
	return oob
}

// Close sends what is waiting and closes the socket.
func (u *udpConn) Close() error {
	u.mu.Lock()
	u.closed = true
	u.room.Broadcast()
	stopped := u.stopped
	u.mu.Unlock()
	if stopped != nil {
		put(u.wake, struct{}{}) // or it is awake already, and will see that we close
		<-stopped
	}
	return u.UDPConn.Close()
}
