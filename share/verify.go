package share

import (
	"crypto/pbkdf2"
	"crypto/sha256"
	"fmt"
	"math/big"
	"strings"
)

// How a verification code is made: PBKDF2-HMAC-SHA256, which browsers have too.
const (
	codeLabel  = "loveseat verification code v1"
	codeRounds = 100_000
	codeGroups = 6 // of five digits
)

// VerificationCode returns the number by which two people make sure, over the
// telephone say, that each sees the other's peer and nobody's between them: both compute
// the same from the two peer ids, in whichever order. It is six groups of five
// digits, "12345 67890 …".
//
// It is not shorter because nothing is exchanged for it: who would be in the middle may look for
// keys beforehand, as many towards one side as towards the other, so that of its 99 bits half
// count; the rounds add 17.
func VerificationCode(a, b string) string {
	text := min(a, b) + "\n" + max(a, b)
	key, err := pbkdf2.Key(sha256.New, text, []byte(codeLabel), codeRounds, 16)
	if err != nil {
		return "" // only in FIPS 140-only mode, for its short salts
	}
	limit := new(big.Int).Exp(big.NewInt(10), big.NewInt(5*codeGroups), nil)
	digits := fmt.Sprintf("%0*d", 5*codeGroups, new(big.Int).Mod(new(big.Int).SetBytes(key), limit))
	groups := make([]string, codeGroups)
	for i := range groups {
		groups[i] = digits[5*i : 5*i+5]
	}
	return strings.Join(groups, " ")
}

// VerificationCode returns the code of this peer and another one: see [VerificationCode].
func (p *Peer) VerificationCode(peer string) string { return VerificationCode(p.ID(), peer) }
