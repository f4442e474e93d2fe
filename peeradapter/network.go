package peeradapter

import (
	"net"

	"github.com/pion/transport/v5"
	"github.com/pion/transport/v5/stdnet"
)

// socketBuffer is what we ask the system for on each UDP socket: at 50 MB/s the
// usual 208 KiB last 4 ms, and what overflows is lost.
const socketBuffer = 4 << 20

// A network makes pion's sockets.
type network struct{ *stdnet.Net }

func newNetwork() (*network, error) {
	n, err := stdnet.NewNet()
	return &network{n}, err
}

// Interfaces lists the interfaces there are now: a laptop changes networks while
// its process lives, and stdnet remembers those of its start.
func (n *network) Interfaces() ([]*transport.Interface, error) {
	now, err := stdnet.NewNet()
	if err != nil {
		return nil, err
	}
	return now.Interfaces()
}

// ListenUDP opens a socket with large buffers, which sends and receives many
// packets in one system call where the system can.
func (n *network) ListenUDP(family string, addr *net.UDPAddr) (transport.UDPConn, error) {
	c, err := net.ListenUDP(family, addr)
	if err != nil {
		return nil, err
	}
	_ = c.SetReadBuffer(socketBuffer)
	_ = c.SetWriteBuffer(socketBuffer)
	return newUDPConn(c), nil
}
