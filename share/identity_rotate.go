package share

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/loveseat-db/loveseat/internal/hubdoc"
)

// Rotate returns new keys for the same peer, with the old key's signed statement
// that they are. Others that know the old peer id take the new one for it, in
// allowlists and links, where they see that statement: it is in the peer's share documents,
// and is told to whom the peer opens a share of. It says so for the last eight rotations.
//
// It is no help against a thief of the old key, who could name a successor too: revoke that peer.
func (i *Identity) Rotate() (*Identity, error) {
	next, err := NewIdentity()
	if err != nil {
		return nil, err
	}
	next.succeeds = append(slices.Clone(i.succeeds), hubdoc.NewSuccession(i.sign, next.id, time.Now()))
	next.succeeds = next.succeeds[max(0, len(next.succeeds)-hubdoc.MaxSuccessions):]
	return next, nil
}

// Predecessors returns the peer ids that this identity had before, the oldest first.
func (i *Identity) Predecessors() []string {
	peers, _ := hubdoc.Predecessors(i.id, i.succeeds) // verified when it was read
	return peers
}

// RotateIdentity replaces the identity kept in a directory (see [LoadIdentity])
// by new keys for the same peer. The old one stays in the file backup, for whatever
// needs it still. Processes that run go on with the keys they have.
func RotateIdentity(dir string) (before, after *Identity, backup string, err error) {
	if before, err = readIdentity(filepath.Join(dir, identityFile)); err != nil {
		return nil, nil, "", err
	}
	if after, err = before.Rotate(); err != nil {
		return nil, nil, "", err
	}
	backup, err = replaceIdentity(dir, before, after)
	return before, after, backup, err
}

// SaveIdentity keeps an identity in a directory, as [LoadIdentity] finds it. If there is
// another one, it fails with fs.ErrExist, unless replace is set: then that one stays in the file backup ("" if there was none).
func SaveIdentity(dir string, id *Identity, replace bool) (backup string, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	content, err := id.encode()
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, identityFile)
	if err = createFile(path, content); !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	there, err := readIdentity(path)
	switch {
	case err != nil:
		return "", err
	case there.id == id.id && !replace:
		return "", nil
	case !replace:
		return "", fmt.Errorf("%s holds the identity %s: %w", path, ShortID(there.id), fs.ErrExist)
	}
	return replaceIdentity(dir, there, id)
}

// replaceIdentity puts another identity into the place of old, which it keeps in a file beside it.
func replaceIdentity(dir string, old, next *Identity) (backup string, err error) {
	before, err := old.encode()
	if err != nil {
		return "", err
	}
	after, err := next.encode()
	if err != nil {
		return "", err
	}
	backup = filepath.Join(dir, "identity-"+ShortID(old.id)+".json")
	if err := createFile(backup, before); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("keep the old identity: %w", err)
	}
	whole := filepath.Join(dir, ".identity-"+randomHex(8))
	if err := createFile(whole, after); err != nil {
		return "", fmt.Errorf("keep the identity: %w", err)
	}
	if err := os.Rename(whole, filepath.Join(dir, identityFile)); err != nil {
		_ = os.Remove(whole)
		return "", err
	}
	return backup, nil
}

// introduce tells a sharer whom this peer succeeds.
func (i *Identity) introduce(req *http.Request) *http.Request {
	if len(i.succeeds) == 0 {
		return req
	}
	text, _ := json.Marshal(i.succeeds) // bytes and texts
	req = req.Clone(req.Context())
	req.Header.Set(hubdoc.SuccessionHeader, base64.RawURLEncoding.EncodeToString(text))
	return req
}

const maxSuccessionHeader = 8 << 10

// predecessors reads what the peer that makes a request says of whom it
// succeeds. What does not verify counts as nothing.
func predecessors(h http.Header, peer string) []string {
	value := h.Get(hubdoc.SuccessionHeader)
	if value == "" || len(value) > maxSuccessionHeader {
		return nil
	}
	text, err := base64.RawURLEncoding.DecodeString(value)
	if err != nil {
		return nil
	}
	var chain []hubdoc.Succession
	if json.Unmarshal(text, &chain) != nil {
		return nil
	}
	peers, err := hubdoc.Predecessors(peer, chain)
	if err != nil {
		return nil
	}
	return peers
}

// successor finds the share that a peer, having changed its keys, has in the
// place of one with an id; nil: there is none. Both ids are of the same database.
func (d *directory) successor(id string) *shareDoc {
	live, _, _ := d.snapshot()
	for _, s := range live {
		for _, peer := range s.predecessors {
			if shareID(peer, s.Nonce) == id {
				return s
			}
		}
	}
	return nil
}

// IdentityFile returns the path of the file in which a directory keeps an identity: see [LoadIdentity].
func IdentityFile(dir string) string { return filepath.Join(dir, identityFile) }
