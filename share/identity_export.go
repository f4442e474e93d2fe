package share

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"

	"golang.org/x/crypto/argon2"
)

// An exported identity is a PEM block (RFC 7468): the content of identity.json,
// as it is or encrypted.
const (
	plainBlock     = "LOVESEAT IDENTITY"
	encryptedBlock = "LOVESEAT ENCRYPTED IDENTITY"
	peerField      = "Peer" // PEM header: whose it is, for people
)

// The encrypted block is a version byte, salt, nonce and the AES-256-GCM
// ciphertext (its additional data is the version byte) under the Argon2id key of the passphrase, by the second
// recommendation of RFC 9106 section 4: three passes, 64 MiB, four lanes.
const (
	exportVersion = 1
	exportSalt    = 16
	exportNonce   = 12
	argonTime     = 3
	argonMemory   = 64 << 10 // KiB
	argonLanes    = 4
	maxExport     = 64 << 10
)

// ErrPassphrase is the error of an exported identity that does not open: the
// passphrase is wrong or missing, or the text was changed.
var ErrPassphrase = errors.New("the passphrase is wrong, or the file is damaged")

// Export returns the identity as a text to keep elsewhere, encrypted with a
// passphrase. Who has both is this peer. See [ParseIdentity].
func (i *Identity) Export(passphrase []byte) ([]byte, error) {
	if len(passphrase) == 0 {
		return nil, errors.New("an empty passphrase")
	}
	content, err := i.encode()
	if err != nil {
		return nil, err
	}
	head := make([]byte, 1+exportSalt+exportNonce)
	head[0] = exportVersion
	_, _ = rand.Read(head[1:]) // never fails: crypto/rand
	aead, err := exportCipher(passphrase, head)
	if err != nil {
		return nil, err
	}
	return i.pem(encryptedBlock, aead.Seal(head, head[1+exportSalt:], content, head[:1])), nil
}

// ExportPlain is [Identity.Export] without encryption: who has the text is this peer.
func (i *Identity) ExportPlain() ([]byte, error) {
	content, err := i.encode()
	if err != nil {
		return nil, err
	}
	return i.pem(plainBlock, content), nil
}

func (i *Identity) pem(kind string, content []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Headers: map[string]string{peerField: i.id}, Bytes: content})
}

func exportCipher(passphrase, head []byte) (cipher.AEAD, error) {
	key := argon2.IDKey(passphrase, head[1:1+exportSalt], argonTime, argonMemory, argonLanes, 32)
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// IsEncryptedIdentity reports whether [ParseIdentity] needs a passphrase for a text.
func IsEncryptedIdentity(text []byte) bool {
	block, _ := pem.Decode(text)
	return block != nil && block.Type == encryptedBlock
}

// ParseIdentity reads what [Identity.Export] or [Identity.ExportPlain] has
// written. Errors: [ErrPassphrase].
func ParseIdentity(text, passphrase []byte) (*Identity, error) {
	if len(text) > maxExport {
		return nil, errors.New("not an exported identity: too long")
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("not an exported identity")
	}
	switch block.Type {
	case plainBlock:
		return decodeIdentity(block.Bytes)
	case encryptedBlock:
	default:
		return nil, fmt.Errorf("not an exported identity but %.40q", block.Type)
	}
	const head = 1 + exportSalt + exportNonce
	sealed := block.Bytes
	if len(sealed) < head || sealed[0] != exportVersion {
		return nil, errors.New("exported identity of an unknown version")
	}
	aead, err := exportCipher(passphrase, sealed[:head])
	if err != nil {
		return nil, err
	}
	content, err := aead.Open(nil, sealed[1+exportSalt:head], sealed[head:], sealed[:1])
	if err != nil {
		return nil, ErrPassphrase
	}
	return decodeIdentity(content)
}
