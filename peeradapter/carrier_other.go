//go:build !linux

package peeradapter

import "net"

// pendingBytes returns nil: what the system holds is not known.
func pendingBytes(net.Conn) func() int { return nil }
