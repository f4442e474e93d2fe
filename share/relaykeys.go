package share

import (
	"context"
	"crypto/ecdh"
	"net/url"
)

// A KeyedSignaler is a [Signaler] that has the device keys behind its signals, for
// a transport that talks through the hub and so must encrypt and prove by itself.
type KeyedSignaler interface {
	Signaler
	// Address returns this peer's address, the Signal.From of what it sends.
	Address() string
	// SealingKey returns this peer's X25519 key.
	SealingKey() *ecdh.PrivateKey
	// SealingKeyOf returns another peer's, as its signature vouches for it: from what
	// it has sent in a session, or its share. Errors: not_found (404), the hub's.
	SealingKeyOf(ctx context.Context, address, session string) (*ecdh.PublicKey, error)
	// RelayProof returns the value of the header Loveseat-Peer with which this peer asks a
	// hub for one ticket of its relay: see [Identity.RelayProof].
	RelayProof(hub *url.URL, database string) string
}

var _ KeyedSignaler = (*mailbox)(nil)

// Address implements [KeyedSignaler].
func (m *mailbox) Address() string { return m.address }

// SealingKey implements [KeyedSignaler].
func (m *mailbox) SealingKey() *ecdh.PrivateKey { return m.id.seal }

// RelayProof implements [KeyedSignaler].
func (m *mailbox) RelayProof(hub *url.URL, database string) string {
	return m.id.RelayProof(hub, database)
}

// SealingKeyOf implements [KeyedSignaler].
func (m *mailbox) SealingKeyOf(ctx context.Context, address, session string) (*ecdh.PublicKey, error) {
	m.mu.Lock()
	keys, ok := m.sessions.keysOf(address, session)
	m.mu.Unlock()
	if !ok {
		var err error
		if keys.Seal, err = m.sealKey(ctx, peerOf(address)); err != nil {
			return nil, err
		}
	}
	return ecdh.X25519().NewPublicKey(keys.Seal)
}
