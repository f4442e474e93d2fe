package peeradapter

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// pendingBytes returns what tells how many bytes the system holds that the peer
// has not acknowledged (SIOCOUTQ, tcp(7)), nil for a connection that is not TCP.
func pendingBytes(c net.Conn) func() int {
	for {
		inner, ok := c.(interface{ NetConn() net.Conn }) // TLS, and our messages
		if !ok {
			break
		}
		c = inner.NetConn()
	}
	s, ok := c.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return nil
	}
	return func() (n int) {
		_ = raw.Control(func(fd uintptr) {
			if n, err = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ); err != nil {
				n = 0
			}
		})
		return n
	}
}
