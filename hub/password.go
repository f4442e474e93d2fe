package hub

import (
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"hash"
	"strconv"
	"strings"

	"github.com/loveseat-db/loveseat/internal/couch"
)

// iterations of PBKDF2-SHA256 for new passwords, as in CouchDB 3.5; tests take fewer.
var iterations = 600_000

// Users write such hashes into their documents, and each log-in pays for it. What is
// larger is not written any more; of what was written before, as much as storedIterations is verified.
const (
	storedIterations = 5_000_000
	maxSalt          = 1 << 10 // bytes
	maxPassword      = 8 << 10
)

// maxIterations is what a hash may cost: twice a new one. Of the longer hashes an iteration costs twice as much.
func (p *passwordHash) maxIterations() int {
	if p.PRF == "sha384" || p.PRF == "sha512" {
		return iterations
	}
	return 2 * iterations
}

// A passwordHash is what is kept of a password, in the terms of CouchDB's user
// documents. The zero value is the hash of no password.
//
// https://docs.couchdb.org/en/stable/intro/security.html#users-documents
type passwordHash struct {
	Scheme     string // "pbkdf2", or "simple": SHA-1 of password and salt, as CouchDB 1.2 and older made it
	PRF        string // of pbkdf2: "sha", "sha224", "sha256", "sha384", "sha512"
	Salt       string // used as it is written
	Iterations int
	Key        string // derived_key or password_sha, hexadecimal
}

// prfs are the hash functions of PBKDF2, by CouchDB's names. CouchDB older than 3.4 names none and means SHA-1.
var prfs = map[string]func() hash.Hash{
	"sha": sha1.New, "sha224": sha256.New224, "sha256": sha256.New, "sha384": sha512.New384, "sha512": sha512.New,
}

// hashPassword makes the hash that a new password gets. It takes long; see [hasher].
func hashPassword(password string) (passwordHash, error) {
	var salt [16]byte
	_, _ = rand.Read(salt[:]) // cannot fail
	p := passwordHash{Scheme: "pbkdf2", PRF: "sha256", Salt: hex.EncodeToString(salt[:]), Iterations: iterations}
	key, err := p.derive(password)
	p.Key = hex.EncodeToString(key)
	return p, err
}

func (p *passwordHash) derive(password string) ([]byte, error) {
	switch p.Scheme {
	case "simple":
		sum := sha1.Sum([]byte(password + p.Salt))
		return sum[:], nil
	case "pbkdf2":
		prf, ok := prfs[p.PRF]
		if !ok || p.Iterations < 1 {
			return nil, fmt.Errorf("a password is kept by an unknown PBKDF2: %q, %d iterations", p.PRF, p.Iterations)
		}
		if p.Iterations > storedIterations {
			return nil, errIterations
		}
		return pbkdf2.Key(prf, password, []byte(p.Salt), p.Iterations, prf().Size())
	}
	return nil, fmt.Errorf("a password is kept by an unknown scheme %q", p.Scheme)
}

// verify reports whether password is the one. The comparison takes the same time wherever they differ.
func (p *passwordHash) verify(password string) (bool, error) {
	got, err := p.derive(password)
	if err != nil {
		return false, err
	}
	want, err := hex.DecodeString(p.Key)
	return err == nil && subtle.ConstantTimeCompare(got, want) == 1, nil
}

var errIterations = couch.Forbidden("Iteration count is too high for this server")

// check says whether a hash may be written: it can be verified, and that costs no more than it may.
func (p *passwordHash) check() error {
	switch {
	case p.Key == "": // nobody logs in by it
		return nil
	case len(p.Salt) > maxSalt || len(p.Key) > maxSalt:
		return couch.Forbidden("salt or hash of the password is too long.")
	case p.Scheme != "pbkdf2":
		return nil
	case prfs[p.PRF] == nil:
		return couch.Forbidden("pbkdf2_prf is not supported.")
	case p.Iterations > p.maxIterations():
		return errIterations
	case p.Iterations < 1:
		return couch.Forbidden("Iteration count is too low for this server")
	}
	return nil
}

// usable reports whether a hash that is stored is verified.
func (p *passwordHash) usable() bool {
	return p.Key != "" && len(p.Key) <= maxSalt && len(p.Salt) <= maxSalt && (p.Scheme == "simple" || prfs[p.PRF] != nil && p.Iterations >= 1)
}

// cost is what verifying takes, in hashes of new passwords.
func (p *passwordHash) cost() float64 {
	return max(1, 2*float64(p.Iterations)/float64(p.maxIterations()))
}

// weak reports whether a new password would be kept better: more safely, or at less cost.
func (p *passwordHash) weak() bool { return p.cheap() || p.Iterations > p.maxIterations() }

// cheap reports whether verifying takes noticeably less time than of a new password.
func (p *passwordHash) cheap() bool {
	return p.Scheme != "pbkdf2" || p.PRF == "sha" || p.PRF == "sha224" || p.Iterations < iterations
}

// tag is a keyed hash of all that makes a log-in right, so that a right password
// is known again without the cost of deriving, as long as it has not changed.
func (p *passwordHash) tag(key []byte, name, password string) [sha256.Size]byte {
	b := append(make([]byte, 0, 512), key...) // the tag is never told, so this need be no HMAC
	for _, s := range []string{name, p.Scheme, p.PRF, p.Salt, p.Key} {
		b = append(append(b, s...), 0)
	}
	return sha256.Sum256(append(b, password...))
}

// String writes the hash as CouchDB's configuration does for server administrators.
func (p passwordHash) String() string {
	if p.Scheme == "simple" {
		return "-hashed-" + p.Key + "," + p.Salt
	}
	return fmt.Sprintf("-pbkdf2:%s-%s,%s,%d", p.PRF, p.Key, p.Salt, p.Iterations)
}

// parsePasswordHash reads what String writes, and "-pbkdf2-…" of CouchDB older
// than 3.4. ok is false for a password in clear text.
func parsePasswordHash(s string) (p passwordHash, ok bool) {
	if rest, ok := strings.CutPrefix(s, "-hashed-"); ok {
		p.Scheme = "simple"
		p.Key, p.Salt, ok = strings.Cut(rest, ",")
		return p, ok
	}
	rest, ok := strings.CutPrefix(s, "-pbkdf2")
	prf, rest, cut := strings.Cut(rest, "-")
	parts := strings.Split(rest, ",")
	if !ok || !cut || len(parts) != 3 {
		return passwordHash{}, false
	}
	p = passwordHash{Scheme: "pbkdf2", PRF: "sha", Key: parts[0], Salt: parts[1]}
	if prf != "" {
		p.PRF = strings.TrimPrefix(prf, ":")
	}
	n, err := strconv.Atoi(parts[2])
	p.Iterations = n
	return p, err == nil && prfs[p.PRF] != nil
}

// HashPassword returns the form in which [Admin.Password] is best kept in a
// configuration file: "-pbkdf2:sha256-KEY,SALT,ITERATIONS", which CouchDB's
// configuration takes too. A password that has such a form already is returned as it is.
func HashPassword(password string) (string, error) {
	if _, ok := parsePasswordHash(password); ok {
		return password, nil
	}
	p, err := hashPassword(password)
	return p.String(), err
}
