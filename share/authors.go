package share

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/go-kivik/kivik/v4"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/couchkivik"
)

// A ledger remembers which peer wrote a revision through a share first: of the
// newest 262,144 revisions a hash and the peer, in 64 _local documents of the
// shared database that are written round and round. It costs 14 bytes on disk for a
// revision, and is up to half a second behind what is written.
type ledger struct {
	db     couch.DB
	prefix string // of the documents' ids
	log    *slog.Logger

	mu       sync.Mutex
	loaded   bool
	salt     string            // of the keys
	peers    []string          // by number
	numbers  map[string]uint32 // of peers
	by       map[authorKey]uint32
	segments [authorSegments]authorSegment
	at       int           // the segment that is being filled
	wake     chan struct{} // holds one
}

const (
	authorSegments = 64
	segmentSize    = 4096 // revisions
	authorLinger   = 500 * time.Millisecond
	authorFlush    = 5 * time.Second // for the last time
)

// An authorKey stands for a document's revision: 64 bits of a hash. They are few, and
// whoever knows how to compute them can make two revisions with one, of which
// another peer writes the first: so they depend on a salt that no peer knows.
type authorKey [8]byte

func newAuthorKey(salt, id string, rev couch.Rev) authorKey {
	b := make([]byte, 0, 128)
	b = append(append(append(b, salt...), id...), 0)
	b, _ = rev.AppendText(b)
	sum := sha256.Sum256(b)
	return authorKey(sum[:8])
}

// An authorSegment is one of the documents.
type authorSegment struct {
	round int // how often the segments had been filled before it was begun
	keys  []authorKey
	dirty bool
	rev   couch.Rev
}

// segmentDoc is a segment's document. Entries are 10 bytes each: the key and the
// number of the peer in Peers, little-endian.
type segmentDoc struct {
	Round   int      `json:"round"`
	Salt    string   `json:"salt"`
	Peers   []string `json:"peers"`
	Entries string   `json:"entries"` // base64
}

func newLedger(db couch.DB, share string, log *slog.Logger) *ledger {
	return &ledger{db: db, prefix: "loveseat-authors-" + share + "-", log: log, wake: make(chan struct{}, 1)}
}

func (l *ledger) docID(n int) string { return fmt.Sprintf("%s%02d", l.prefix, n) }

// load reads what there is, the first time. l.mu is held.
func (l *ledger) load(ctx context.Context) error {
	if l.loaded {
		return nil
	}
	l.by, l.numbers, l.peers, l.at, l.salt = map[authorKey]uint32{}, map[string]uint32{}, nil, 0, ""
	for n := range l.segments {
		l.segments[n] = authorSegment{}
		d, err := l.db.GetLocal(ctx, l.docID(n))
		if errors.Is(err, couch.ErrNotFound) {
			break
		}
		if err != nil {
			return err
		}
		l.read(n, d)
		if last := &l.segments[l.at]; l.segments[n].round >= last.round {
			l.at = n
		}
	}
	l.salt = cmp.Or(l.salt, rand.Text())
	l.loaded = true
	return nil
}

// read takes a segment in; one that is damaged is empty.
func (l *ledger) read(n int, d *couch.Doc) {
	s := &l.segments[n]
	s.rev = d.Rev
	var doc segmentDoc
	if json.Unmarshal(d.Body, &doc) != nil {
		return
	}
	s.round, l.salt = doc.Round, cmp.Or(l.salt, doc.Salt)
	entries, _ := base64.StdEncoding.DecodeString(doc.Entries)
	for ; len(entries) >= 10 && len(s.keys) < segmentSize; entries = entries[10:] {
		key, peer := authorKey(entries[:8]), int(binary.LittleEndian.Uint16(entries[8:]))
		if peer < len(doc.Peers) {
			s.keys = append(s.keys, key)
			l.by[key] = l.number(doc.Peers[peer])
		}
	}
}

func (l *ledger) number(peer string) uint32 {
	n, ok := l.numbers[peer]
	if !ok {
		n = uint32(len(l.peers))
		l.peers, l.numbers[peer] = append(l.peers, peer), n
	}
	return n
}

// note remembers that a peer has written revisions, unless another one has before.
func (l *ledger) note(peer string, written []revKey) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.load(context.Background()); err != nil {
		l.log.Warn("authors are not remembered", "err", err)
		return
	}
	n := l.number(peer)
	for _, w := range written {
		if _, known := l.find(w); !known {
			key := newAuthorKey(l.salt, w.id, w.rev)
			l.by[key] = n
			l.add(key)
		}
	}
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// add puts a key into the segment that is being filled, or begins the next one.
func (l *ledger) add(key authorKey) {
	s := &l.segments[l.at]
	if len(s.keys) >= segmentSize {
		round := s.round
		if l.at++; l.at == authorSegments {
			l.at = 0
			round++
		}
		s = &l.segments[l.at]
		s.keys, s.round = l.survivors(s.keys), round
	}
	s.keys, s.dirty = append(s.keys, key), true
}

// survivors are what is kept of a segment that is begun again: half of it at most, of peers that have
// less than their share of the ledger, so that nobody who writes much makes others' revisions forgotten. The rest is forgotten.
func (l *ledger) survivors(keys []authorKey) []authorKey {
	if len(keys) == 0 {
		return nil
	}
	counts := map[uint32]int{}
	for _, peer := range l.by {
		counts[peer]++
	}
	share := len(l.by) / max(2, len(counts))
	var kept []authorKey
	for i := len(keys) - 1; i >= 0; i-- {
		if key := keys[i]; counts[l.by[key]] <= share && len(kept) < segmentSize/2 {
			kept = append(kept, key)
		} else {
			delete(l.by, key)
		}
	}
	slices.Reverse(kept)
	return kept
}

// author returns who wrote a revision, "" if that is not known.
func (l *ledger) author(ctx context.Context, id string, rev couch.Rev) (string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.load(ctx); err != nil {
		return "", err
	}
	if n, ok := l.find(revKey{id, rev}); ok {
		return l.peers[n], nil
	}
	return "", nil
}

// find returns the number of who wrote a revision. What an earlier release noted has no salt.
func (l *ledger) find(w revKey) (peer uint32, ok bool) {
	if peer, ok = l.by[newAuthorKey(l.salt, w.id, w.rev)]; !ok {
		peer, ok = l.by[newAuthorKey("", w.id, w.rev)]
	}
	return peer, ok
}

// each calls fn with every author.
func (l *ledger) each(ctx context.Context, fn func(peer string)) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.load(ctx); err != nil {
		return err
	}
	for _, peer := range l.peers {
		fn(peer)
	}
	return nil
}

// run writes what is noted, soon after, and a last time when ctx ends.
func (l *ledger) run(ctx context.Context) {
	whenWoken(ctx, l.wake, authorLinger, authorFlush, l.flush)
}

func (l *ledger) flush(ctx context.Context) {
	for n := range l.segments {
		doc, err := l.encode(n)
		if doc == nil && err == nil {
			continue
		}
		var rev couch.Rev
		if err == nil {
			rev, err = l.db.PutLocal(ctx, doc)
		}
		l.mu.Lock()
		if l.segments[n].rev = rev; err != nil {
			l.log.Warn("authors not kept", "err", err)
			l.segments[n].rev, l.segments[n].dirty = doc.Rev, true
		}
		l.mu.Unlock()
	}
}

// encode makes a segment's document, nil if there is nothing new in it.
func (l *ledger) encode(n int) (*couch.Doc, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := &l.segments[n]
	if !s.dirty {
		return nil, nil
	}
	s.dirty = false
	doc := segmentDoc{Round: s.round, Salt: l.salt}
	numbers := map[uint32]uint16{}
	entries := make([]byte, 0, 10*len(s.keys))
	for _, key := range s.keys {
		peer := l.by[key]
		short, ok := numbers[peer]
		if !ok {
			short = uint16(len(doc.Peers)) // a segment has fewer revisions than that
			doc.Peers, numbers[peer] = append(doc.Peers, l.peers[peer]), short
		}
		entries = binary.LittleEndian.AppendUint16(append(entries, key[:]...), short)
	}
	doc.Entries = base64.StdEncoding.EncodeToString(entries)
	body, err := json.Marshal(doc)
	return &couch.Doc{ID: l.docID(n), Rev: s.rev, Body: body}, err
}

// Author returns the peer that wrote a revision through this share before anybody
// else brought it here, "" if nobody did or it is forgotten (see [ShareOptions]): then it
// is the owner's, or came another way. It does not look whether there is such a revision.
func (s *Share) Author(ctx context.Context, docID, rev string) (peer string, err error) {
	r, err := couch.ParseRev(rev)
	if err != nil {
		return "", err
	}
	return s.ledger.author(ctx, docID, r)
}

// A RevAuthor is a revision and who wrote it through a share, see [Share.Author].
type RevAuthor struct {
	Rev  string `json:"rev"`
	Peer string `json:"peer,omitempty"` // "": the owner, or not known
	Leaf bool   `json:"leaf"`           // the document has it now, as its winner or in conflict
}

// Authors returns the revisions of a document, of each leaf and then of its
// ancestors, with their authors, as the share of a database by an identity
// remembers them. Nothing needs to be shared at the moment. Errors: not_found (404).
func Authors(ctx context.Context, db *kivik.DB, id *Identity, docID string) ([]RevAuthor, error) {
	from := couchkivik.From(db)
	info, err := from.Info(ctx)
	if err != nil {
		return nil, err
	}
	l := newLedger(from, baseID(id, info), slog.New(slog.DiscardHandler))
	var all []RevAuthor
	seen := map[couch.Rev]bool{}
	err = from.BulkGet(ctx, []couch.DocRef{{ID: docID}}, couch.GetOptions{Revs: true}, func(r couch.BulkGetResult) error {
		if r.Doc == nil {
			return r.Err
		}
		for i, hash := range r.Doc.Ancestry() {
			rev := couch.Rev{Gen: r.Doc.Rev.Gen - int64(i), Hash: hash}
			if seen[rev] {
				break
			}
			seen[rev] = true
			peer, err := l.author(ctx, docID, rev)
			if err != nil {
				return err
			}
			all = append(all, RevAuthor{rev.String(), peer, i == 0})
		}
		return nil
	})
	return all, err
}

// databaseName is what a share's nonce is made of.
func databaseName(info *couch.Info) string {
	if info.UUID != "" {
		return info.UUID
	}
	return info.Name
}
