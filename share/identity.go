package share

import (
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/loveseat-db/loveseat/internal/hubdoc"
)

// An Identity is a peer's device key: an Ed25519 key that signs what the peer
// publishes, and an X25519 key to which its signals are sealed.
type Identity struct {
	sign     ed25519.PrivateKey
	seal     *ecdh.PrivateKey
	id       string
	succeeds []hubdoc.Succession // the peer ids it had before, the oldest first
}

// Keys are the public keys of a peer. The peer id is the hash of Sign; Seal is
// vouched for by the signature of the document it comes in.
type Keys = hubdoc.Keys

// NewIdentity makes an identity that lives in memory only.
func NewIdentity() (*Identity, error) {
	seed := make([]byte, ed25519.SeedSize)
	if _, err := rand.Read(seed); err != nil {
		return nil, err
	}
	seal, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	return newIdentity(ed25519.NewKeyFromSeed(seed), seal), nil
}

func newIdentity(sign ed25519.PrivateKey, seal *ecdh.PrivateKey) *Identity {
	return &Identity{sign: sign, seal: seal, id: PeerID(sign.Public().(ed25519.PublicKey))}
}

// ID returns the peer id.
func (i *Identity) ID() string { return i.id }

// Keys returns the public keys.
func (i *Identity) Keys() Keys {
	return Keys{Sign: i.sign.Public().(ed25519.PublicKey), Seal: i.seal.PublicKey().Bytes()}
}

// PeerID returns the id of the peer with a public signing key: the first 160
// bits of the key's SHA-256 (after a label) in base32, in groups of four:
// "k7qm-x2vd-…", 39 characters.
func PeerID(signKey ed25519.PublicKey) string { return hubdoc.PeerID(signKey) }

// ShortID returns the first two groups of a peer id: enough for people to tell
// peers apart (40 bits), never to authenticate one.
func ShortID(peer string) string { return peer[:min(len(peer), 9)] }

// An address names one process of a peer: "<peer id>.<instance>", the instance
// being random for each [Join]. Two programs that use one identity at the same
// time so never take each other's signals, and nobody waits for a process that
// has been restarted.
func address(peer, instance string) string { return hubdoc.Address(peer, instance) }

// peerOf returns the peer id of an address.
func peerOf(address string) string { return hubdoc.PeerOf(address) }

// randomHex returns n random bytes as 2n hex digits.
func randomHex(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails: crypto/rand
	return hex.EncodeToString(b)
}

const identityFile = "identity.json"

// identityJSON is the file's content.
type identityJSON struct {
	Version int    `json:"v"`
	Sign    []byte `json:"sign"` // Ed25519 seed
	Seal    []byte `json:"seal"` // X25519 private key

	Succeeds []hubdoc.Succession `json:"succeeds,omitempty"` // see [Identity.Rotate]
}

// LoadIdentity returns the identity kept in the directory's file
// "identity.json", which it makes on first use: only its owner can read it
// (0600; the directory, if it is made, 0700). The file is whole or absent, also
// when several processes make it at once: they all get the same identity.
func LoadIdentity(dir string) (*Identity, error) {
	path := filepath.Join(dir, identityFile)
	id, err := readIdentity(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return id, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if id, err = NewIdentity(); err != nil {
		return nil, err
	}
	content, err := id.encode()
	if err != nil {
		return nil, err
	}
	if err := createFile(path, content); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("keep the identity: %w", err)
	}
	return readIdentity(path)
}

func readIdentity(path string) (*Identity, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	id, err := decodeIdentity(content)
	if err != nil {
		return nil, fmt.Errorf("identity %s: %w", path, err)
	}
	return id, nil
}

// encode makes the file's content.
func (i *Identity) encode() ([]byte, error) {
	content, err := json.Marshal(identityJSON{1, i.sign.Seed(), i.seal.Bytes(), i.succeeds})
	return append(content, '\n'), err
}

func decodeIdentity(content []byte) (*Identity, error) {
	var f identityJSON
	if err := json.Unmarshal(content, &f); err != nil {
		return nil, err
	}
	if f.Version != 1 || len(f.Sign) != ed25519.SeedSize {
		return nil, errors.New("unknown format")
	}
	seal, err := ecdh.X25519().NewPrivateKey(f.Seal)
	if err != nil {
		return nil, err
	}
	id := newIdentity(ed25519.NewKeyFromSeed(f.Sign), seal)
	id.succeeds = f.Succeeds
	if _, err := hubdoc.Predecessors(id.id, id.succeeds); err != nil {
		return nil, err
	}
	return id, nil
}

// createFile makes a file that must not exist, whole and durable (fs.ErrExist otherwise).
func createFile(path string, content []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".new-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(content)
	err = errors.Join(err, tmp.Sync(), tmp.Close())
	if err != nil {
		return err
	}
	// A hard link fails if the name exists, which a rename would replace.
	if err := os.Link(tmp.Name(), path); err == nil || errors.Is(err, fs.ErrExist) {
		return err
	}
	return os.Rename(tmp.Name(), path) // a file system without hard links
}
