package share

import (
	"encoding/json"
	"errors"
	"time"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/hubdoc"
)

const (
	signalAge  = hubdoc.SignalAge
	maxPayload = hubdoc.MaxPayload
)

// signalDoc is the document "signal:<time-sortable id>".
type signalDoc struct {
	hubdoc.Signal
	id   string // document id
	time time.Time
}

func signalDocID(t time.Time) string { return hubdoc.SignalID(t, randomHex(8)) }

// newSignalDoc seals the payload to the recipient and signs the whole.
func (i *Identity) newSignalDoc(s Signal, seq uint64, sealKey []byte, now time.Time) (*couch.Doc, error) {
	if err := checkSignal(s); err != nil {
		return nil, err
	}
	docID := signalDocID(now)
	header := hubdoc.Signal{
		Type: "signal", Version: hubdoc.Version, To: s.To, From: s.From, Keys: i.Keys(), Session: s.Session,
		Seq: seq, Kind: s.Kind, Time: formatTime(now), Expires: formatTime(now.Add(signalAge)),
	}
	body, err := json.Marshal(header)
	if err != nil {
		return nil, err
	}
	// The ciphertext is bound to the header: under another sender's name it does not open.
	info, err := canonical(docID, body)
	if err != nil {
		return nil, err
	}
	if header.Payload, err = sealTo(sealKey, info, s.Payload); err != nil {
		return nil, err
	}
	if body, err = json.Marshal(header); err != nil {
		return nil, err
	}
	if body, err = i.signBody(docID, body); err != nil {
		return nil, err
	}
	return &couch.Doc{ID: docID, Body: body}, nil
}

func checkSignal(s Signal) error {
	if len(s.Payload) > maxPayload {
		return errors.New("signal payload is too long")
	}
	return hubdoc.CheckHeader(s.To, s.From, s.Session, s.Kind)
}

// parseSignal reads a signal document's header, without verifying it.
func parseSignal(d *couch.Doc) (*signalDoc, error) {
	s, t, err := hubdoc.ParseSignal(d)
	if err != nil {
		return nil, err
	}
	return &signalDoc{Signal: *s, id: d.ID, time: t}, nil
}

// openSignal verifies the signature of a parsed signal and opens its payload.
func (i *Identity) openSignal(s *signalDoc, body json.RawMessage) (Signal, error) {
	if err := verifyBody(s.id, body, peerOf(s.From), s.Keys, s.Signature); err != nil {
		return Signal{}, err
	}
	info, err := canonical(s.id, body, "payload", "signature")
	if err != nil {
		return Signal{}, err
	}
	payload, err := i.openSealed(info, s.Payload)
	if err != nil {
		return Signal{}, err
	}
	return Signal{To: s.To, From: s.From, Session: s.Session, Kind: s.Kind, Payload: payload}, nil
}
