package evil

import (
	"context"
	"crypto/hmac"
	"crypto/md5"
	"crypto/rand"
	"crypto/sha1"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"time"
)

// turns are the attacks of item 22 on the hub's TURN server.
var turns = []Attack{{Item: 22, Name: "TURN relays to addresses that are the hub's own, its cloud's or private", Run: relaysInside, Stranger: true}}

// What is said to a TURN server (RFC 8489, RFC 8656).
const (
	stunCookie       = 0x2112A442
	allocate         = 0x0003
	createPermission = 0x0008
	stunSuccess      = 0x0100
	attrUsername     = 0x0006
	attrIntegrity    = 0x0008
	attrError        = 0x0009
	attrPeer         = 0x0012
	attrRealm        = 0x0014
	attrNonce        = 0x0015
	attrTransport    = 0x0019
)

// relaysInside asks for permission to send to where a relay must not lead; nothing is sent.
func relaysInside(ctx context.Context, t *Target) error {
	c, err := t.relayed(ctx)
	if err != nil {
		return notMade("a relay", err)
	}
	defer c.conn.Close()
	for _, to := range []string{"168.63.129.16", "169.254.169.254", "127.0.0.1", "127.255.0.1", "0.0.0.0", "10.0.0.1", "172.17.0.1", "192.168.0.1", "100.100.100.200", "192.0.0.192", "224.0.0.1", "255.255.255.255"} {
		kind, _, err := c.ask(createPermission, stunAttr(attrPeer, xorAddress(netip.MustParseAddr(to))))
		if err != nil {
			return notMade("a permission", err)
		}
		if kind == createPermission|stunSuccess {
			return fmt.Errorf("it relays to %s", to)
		}
	}
	return nil
}

// A turnClient is one that has a relay, made by hand.
type turnClient struct {
	conn         net.Conn
	user, secret string
	realm, nonce []byte
}

func (t *Target) relayed(ctx context.Context) (*turnClient, error) {
	a, err := do(ctx, "GET", t.Hub+"/_ice", request{as: &t.Mallory})
	if err != nil {
		return nil, err
	}
	var ice struct {
		Servers []struct {
			URLs                 []string
			Username, Credential string
		} `json:"iceServers"`
	}
	if err := json.Unmarshal([]byte(a.Body), &ice); err != nil {
		return nil, err
	}
	for _, s := range ice.Servers {
		for _, address := range s.URLs {
			u, err := url.Parse(strings.Replace(address, "turn:", "turn://", 1))
			if err != nil || s.Username == "" {
				continue
			}
			conn, err := net.Dial("udp", "127.0.0.1:"+u.Port())
			if err != nil {
				return nil, err
			}
			c := &turnClient{conn: conn, user: s.Username, secret: s.Credential}
			udp := stunAttr(attrTransport, []byte{17, 0, 0, 0})
			_, answered, err := c.ask(allocate, udp) // which tells realm and nonce
			if err == nil {
				c.realm, c.nonce = answered[attrRealm], answered[attrNonce]
				var kind uint16
				if kind, answered, err = c.ask(allocate, udp); err == nil && kind != allocate|stunSuccess {
					err = fmt.Errorf("it is refused: %x %q", kind, answered[attrError])
				}
			}
			if err != nil {
				_ = conn.Close()
				return nil, err
			}
			return c, nil
		}
	}
	return nil, errors.New("the hub names no TURN server")
}

func stunAttr(kind uint16, value []byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, kind)
	b = binary.BigEndian.AppendUint16(b, uint16(len(value)))
	b = append(b, value...)
	return append(b, make([]byte, (4-len(value)%4)%4)...)
}

// xorAddress is the value of XOR-PEER-ADDRESS for an IPv4 address, at port 80.
func xorAddress(a netip.Addr) []byte {
	ip := a.As4()
	b := binary.BigEndian.AppendUint16([]byte{0, 1}, 80^uint16(stunCookie>>16))
	return binary.BigEndian.AppendUint32(b, binary.BigEndian.Uint32(ip[:])^stunCookie)
}

// ask sends a request, signed if there is a realm, and returns the answer's type and attributes.
func (c *turnClient) ask(kind uint16, attrs ...[]byte) (uint16, map[uint16][]byte, error) {
	var id [12]byte
	_, _ = rand.Read(id[:]) // never fails
	body := []byte{}
	for _, a := range attrs {
		body = append(body, a...)
	}
	if c.realm != nil {
		body = append(body, stunAttr(attrUsername, []byte(c.user))...)
		body = append(body, stunAttr(attrRealm, c.realm)...)
		body = append(body, stunAttr(attrNonce, c.nonce)...)
	}
	message := func(length int) []byte {
		b := binary.BigEndian.AppendUint16(nil, kind)
		b = binary.BigEndian.AppendUint16(b, uint16(length))
		b = binary.BigEndian.AppendUint32(b, stunCookie)
		return append(append(b, id[:]...), body...)
	}
	out := message(len(body))
	if c.realm != nil {
		key := md5.Sum([]byte(c.user + ":" + string(c.realm) + ":" + c.secret))
		mac := hmac.New(sha1.New, key[:])
		_, _ = mac.Write(message(len(body) + 24))
		out = append(message(len(body)+24), stunAttr(attrIntegrity, mac.Sum(nil))...)
	}
	in := make([]byte, 1500)
	for range 5 { // packets may be lost
		if _, err := c.conn.Write(out); err != nil {
			return 0, nil, err
		}
		_ = c.conn.SetReadDeadline(time.Now().Add(time.Second))
		n, err := c.conn.Read(in)
		if err == nil && n >= 20 && string(in[8:20]) == string(id[:]) {
			return binary.BigEndian.Uint16(in), stunAttrs(in[20:n]), nil
		}
	}
	return 0, nil, errors.New("the TURN server does not answer")
}

func stunAttrs(b []byte) map[uint16][]byte {
	all := map[uint16][]byte{}
	for len(b) >= 4 {
		n := int(binary.BigEndian.Uint16(b[2:]))
		if 4+n > len(b) {
			break
		}
		all[binary.BigEndian.Uint16(b)] = append([]byte{}, b[4:4+n]...)
		b = b[min(len(b), 4+n+(4-n%4)%4):]
	}
	return all
}
