package peeradapter

import (
	"context"
	"crypto/ecdh"
	"fmt"
	"io"
	"net"

	"github.com/flynn/noise"
)

// What goes through a hub's relay is encrypted from end to end by the Noise
// protocol (https://noiseprotocol.org/noise.html, revision 34)
//
//	Noise_KK_25519_AESGCM_SHA256
//
// The static keys are the X25519 sealing keys of the two peers, which each knows of
// the other by a signed document. The initiator is who sent the signal "relay". The prologue is
// the UTF-8 text of four lines, with "\n" between them and none at the end:
//
//	loveseat relay v1
//	<session>             as in the signal's payload
//	<initiator address>   the signal's "from"
//	<responder address>   the signal's "to"
//
// Each WebSocket message is one Noise message, binary. The first two are the
// handshake's, with empty payloads, 48 bytes each:
//
//	initiator → responder   e, es, ss
//	responder → initiator   e, ee, se
//
// The others, in both directions, are transport messages of at most 65,535 bytes: 0 to
// 65,519 bytes of plaintext and a tag of 16, no associated data, the nonces counting
// from 0 in each direction (AESGCM's nonce is four zero bytes and the count in eight, most
// significant first). An empty plaintext says that its sender writes no more; without it the end
// of the WebSocket is a loss. The other plaintexts are pieces of a byte stream,
// whose borders mean nothing: a yamux session, the initiator its client, as in a data
// channel. A message that does not decrypt (changed, lost, repeated, out of order) ends the connection.

var noiseSuite = noise.NewCipherSuite(noise.DH25519, noise.CipherAESGCM, noise.HashSHA256)

// A relayName is what a relayed connection is bound to.
type relayName struct{ session, initiator, responder string }

func (n relayName) prologue() []byte {
	return fmt.Appendf(nil, "loveseat relay v1\n%s\n%s\n%s", n.session, n.initiator, n.responder)
}

// noiseConfig is that of either side. random is for the ephemeral key; nil: the system's.
func noiseConfig(name relayName, initiator bool, own *ecdh.PrivateKey, other *ecdh.PublicKey, random io.Reader) noise.Config {
	return noise.Config{
		CipherSuite: noiseSuite, Pattern: noise.HandshakeKK, Initiator: initiator, Prologue: name.prologue(), Random: random,
		StaticKeypair: noise.DHKey{Private: own.Bytes(), Public: own.PublicKey().Bytes()}, PeerStatic: other.Bytes(),
	}
}

// noiseConn makes an encrypted connection of a message channel, which it owns: of
// errTampered it fails if what comes is not what the other peer has sent. ctx bounds the handshake.
func noiseConn(ctx context.Context, c MessageChannel, config noise.Config) (net.Conn, error) {
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	send, receive, err := noiseHandshake(ctx, c, config)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		_ = c.Close()
		return nil, fmt.Errorf("peeradapter: relay: %w", err)
	}
	return newMessageConn(c, send, receive), nil
}

func noiseHandshake(ctx context.Context, c MessageChannel, config noise.Config) (send, receive *noise.CipherState, err error) {
	h, err := noise.NewHandshakeState(config)
	if err != nil {
		return nil, nil, err
	}
	var first, second *noise.CipherState // initiator to responder, and back
	for turn := config.Initiator; first == nil; turn = !turn {
		if turn {
			var msg []byte
			if msg, first, second, err = h.WriteMessage(nil, nil); err == nil {
				err = c.Send(msg)
			}
		} else {
			select {
			case msg, ok := <-c.Messages():
				if !ok {
					return nil, nil, io.ErrUnexpectedEOF
				}
				if _, first, second, err = h.ReadMessage(nil, msg); err != nil {
					err = fmt.Errorf("%w: %w", errTampered, err)
				}
			case <-ctx.Done():
				err = context.Cause(ctx)
			}
		}
		if err != nil {
			return nil, nil, err
		}
	}
	if config.Initiator {
		return first, second, nil
	}
	return second, first, nil
}
