package peeradapter

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"

	"github.com/loveseat-db/loveseat/share"
)

// alpn names what is spoken inside TLS: yamux, and HTTP/1.1 on its streams.
const alpn = "loveseat/1"

// ListenTCP accepts the streams of peers that [DialTCP] address ("host:port").
// Both show their device keys in the handshake: TLS 1.3 with certificates that
// they have signed themselves, from whose keys the peer ids follow.
func ListenTCP(address string, o WireOptions) (net.Listener, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	if err := o.checkOpen(l.Addr()); err != nil {
		_ = l.Close()
		return nil, err
	}
	return acceptWires(l, o), nil
}

// acceptWires serves each connection that l accepts, with device keys.
func acceptWires(l net.Listener, o WireOptions) *wires {
	w := newWires(l.Addr(), o, func() { _ = l.Close() })
	l = gate{l, w}
	w.wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				if w.ctx.Err() != nil {
					return
				}
				o.Logger.Warn("cannot accept", "err", err)
				if !pauseFor(w.ctx, acceptPause) {
					return
				}
				continue
			}
			if v := w.take(conn); v != nil { // otherwise it was closed
				go w.serve(v, conn, "tcp", true)
			}
		}
	})
	return w
}

// DialTCP connects to a listener of [ListenTCP]. o.Peers has the id of the peer that
// must be there; only on loopback it may be nil.
func DialTCP(ctx context.Context, address string, o WireOptions) (*Wire, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	if o.Peers == nil && !onLoopback(conn.RemoteAddr()) {
		_ = conn.Close()
		return nil, errWhom
	}
	return newWire(ctx, conn, "tcp", true, o)
}

var errWhom = errors.New("peeradapter: the id of the peer to connect to is missing")

// secureClient shows and asks for device keys; peers nil: anybody's.
func secureClient(ctx context.Context, conn net.Conn, id *share.Identity, peers []string) (string, net.Conn, error) {
	c, err := deviceTLS(id)
	if err != nil {
		return "", conn, err
	}
	// Hostnames mean nothing here: the certificate is checked by its key below.
	c.InsecureSkipVerify, c.ServerName = true, "loveseat"
	secured := tls.Client(conn, c)
	if err := secured.HandshakeContext(ctx); err != nil {
		return "", conn, err
	}
	peer, err := peerOfTLS(secured)
	if err == nil && peers != nil && !slices.Contains(peers, peer) {
		err = fmt.Errorf("peeradapter: the peer there is %s", peer)
	}
	return peer, secured, err
}

func secureServer(ctx context.Context, conn net.Conn, id *share.Identity) (string, net.Conn, error) {
	c, err := deviceTLS(id)
	if err != nil {
		return "", conn, err
	}
	c.ClientAuth = tls.RequireAnyClientCert
	secured := tls.Server(conn, c)
	if err := secured.HandshakeContext(ctx); err != nil {
		return "", conn, err
	}
	peer, err := peerOfTLS(secured)
	return peer, secured, err
}

func deviceTLS(id *share.Identity) (*tls.Config, error) {
	cert, err := id.Certificate()
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13, NextProtos: []string{alpn},
		SessionTicketsDisabled: true, // a resumed session would not show the key again
	}, nil
}

// peerOfTLS returns the id of the peer whose key the other end has proved to have.
func peerOfTLS(c *tls.Conn) (string, error) {
	s := c.ConnectionState()
	if s.NegotiatedProtocol != alpn || len(s.PeerCertificates) != 1 {
		return "", errors.New("peeradapter: the other end speaks another protocol")
	}
	key, ok := s.PeerCertificates[0].PublicKey.(ed25519.PublicKey)
	if !ok {
		return "", errors.New("peeradapter: the other end has no device key")
	}
	return share.PeerID(key), nil
}
