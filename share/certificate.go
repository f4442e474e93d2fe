package share

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"time"
)

// Certificate returns a certificate of the signing key, signed by itself, for
// connections in which peers show each other their keys by TLS 1.3. Nothing in it
// counts but the key, of which [PeerID] makes the peer id.
func (i *Identity) Certificate() (tls.Certificate, error) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: i.id},
		NotBefore:    time.Unix(0, 0),
		NotAfter:     time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), // never: RFC 5280 section 4.1.2.5
		KeyUsage:     x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, i.sign.Public().(ed25519.PublicKey), i.sign)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: i.sign}, err
}
