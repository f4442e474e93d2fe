//go:build !linux

package peeradapter

import (
	"net"

	"github.com/pion/transport/v5"
)

func newUDPConn(c *net.UDPConn) transport.UDPConn { return c }
