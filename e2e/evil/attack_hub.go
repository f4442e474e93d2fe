package evil

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/zstd"
)

// general are attacks that belong to no item: whoever can reach the hub makes them.
var general = []Attack{
	{Item: 0, Name: "what no HTTP client would say, at the hub", Run: rawHub, Stranger: true},
	{Item: 0, Name: "connections to the hub that never say what they want", Run: slowHeads, Stranger: true},
	{Item: 11, Name: "known vulnerabilities of Go and echo", Run: oldParts, Stranger: true, Once: true},
}

// prompt is nil if an honest user is served soon.
func (t *Target) prompt(ctx context.Context) error {
	began := time.Now()
	a, err := do(ctx, "GET", t.Direct+"/notes", request{as: &t.Ann})
	if err != nil || a.Status != 200 {
		return fmt.Errorf("an honest user gets %v %w", a, err)
	}
	if took := time.Since(began); t.Alone && took > Prompt {
		return fmt.Errorf("an honest user waits %v", took)
	}
	return nil
}

func rawHub(ctx context.Context, t *Target) error {
	log := basic(t.Mallory)
	host := "Host: localhost\r\n" + log
	put := "PUT /notes/smuggled HTTP/1.1\r\n" + host + "Content-Length: 2\r\n\r\n{}"
	err := together([]string{
		put, "PUT /notes%2Fsmuggled HTTP/1.1\r\n" + host + "Content-Length: 2\r\n\r\n{}", "PUT //notes//smuggled HTTP/1.1\r\n" + host + "Content-Length: 2\r\n\r\n{}",
		"PUT /public/../notes/smuggled HTTP/1.1\r\n" + host + "Content-Length: 2\r\n\r\n{}", "PUT /public/%2e%2e/notes/smuggled HTTP/1.1\r\n" + host + "Content-Length: 2\r\n\r\n{}",
		"POST /public/_find HTTP/1.1\r\n" + host + "Content-Type: application/json\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n" + put,
		"POST /public/_find HTTP/1.1\r\n" + host + "Content-Type: application/json\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}" + put,
		"GET /notes HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n" + log + "\r\n", "GET /notes HTTP/1.1\r\n" + host + strings.Repeat("X: "+strings.Repeat("y", 8000)+"\r\n", 200) + "\r\n",
		"GET http://127.0.0.1/notes HTTP/1.1\r\n" + host + "\r\n", "CONNECT 127.0.0.1:22 HTTP/1.1\r\n" + host + "\r\n", "GET /" + strings.Repeat("a/", 20_000) + " HTTP/1.1\r\n" + host + "\r\n",
		"COPY /public/big-0 HTTP/1.1\r\n" + host + "Destination: ../notes/smuggled\r\n\r\n", "COPY /public/big-0 HTTP/1.1\r\n" + host + "Destination: http://localhost/notes/smuggled\r\n\r\n",
		"GET /notes/_changes HTTP/1.1\r\n" + host + "X-Auth-CouchDB-UserName: ann\r\nX-Auth-CouchDB-Roles: _admin\r\nX-Forwarded-For: 127.0.0.1\r\n\r\n",
		"GET /_all_dbs HTTP/1.1\r\nHost: localhost\r\nCookie: AuthSession=YWRtaW46NjAwMDAwMDA6AAAA\r\n\r\n", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
	}, func(raw string) error {
		got, err := send(ctx, t.Hub, raw)
		if err != nil {
			return notMade("a connection", err)
		}
		if a, err := parse(got); err == nil && a.Status >= 500 && a.Status != 501 && a.Status != 505 {
			return fmt.Errorf("%.100q gets %v", raw, a)
		}
		return nil
	})
	if err != nil {
		return err
	}
	a, err := do(ctx, "GET", t.Direct+"/notes/smuggled", request{as: &t.Ann})
	if err != nil || a.Status != 404 {
		return fmt.Errorf("a document is where Mallory may not write: %v %w", a, err)
	}
	return t.prompt(ctx)
}

// idle opens connections that say something, and then nothing.
func idle(ctx context.Context, server string, n int, say string) (all []net.Conn) {
	for range n {
		c, err := dial(ctx, server)
		if err != nil {
			return all
		}
		_ = c.SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = io.WriteString(c, say)
		all = append(all, c)
	}
	return all
}

func closeAll(conns []net.Conn) {
	for _, c := range conns {
		_ = c.Close()
	}
}

func slowHeads(ctx context.Context, t *Target) error {
	g := watch(t.HubPID)
	conns := append(idle(ctx, t.Hub, 300, ""), idle(ctx, t.Hub, 300, "GET / HTTP/1.1\r\nHost: localhost\r\nX-A: "+strings.Repeat("a", 4000))...)
	defer closeAll(conns)
	return errors.Join(t.prompt(ctx), t.within("the hub", g.end(), t.room()))
}

// digests are the attacks of item 5.
var digests = []Attack{{Item: 5, Name: "the other of two attachments of one MD5", Run: collides, Stranger: true}}

// Two texts of one MD5, by Wang and Yu, "How to Break MD5 and Other Hash Functions", 2005.
const (
	collision1 = "d131dd02c5e6eec4693d9a0698aff95c2fcab58712467eab4004583eb8fb7f8955ad340609f4b30283e488832571415a085125e8f7cdc99fd91dbdf280373c5bd8823e3156348f5bae6dacd436c919c6dd53e2b487da03fd02396306d248cda0e99f33420f577ee8ce54b67080a80d1ec69821bcb6a8839396f9652b6ff72a70"
	collision2 = "d131dd02c5e6eec4693d9a0698aff95c2fcab50712467eab4004583eb8fb7f8955ad340609f4b30283e4888325f1415a085125e8f7cdc99fd91dbd7280373c5bd8823e3156348f5bae6dacd436c919c6dd53e23487da03fd02396306d248cda0e99f33420f577ee8ce54b67080280d1ec69821bcb6a8839396f965ab6ff72a70"
)

// collides: of two files of one digest each is given back as it was sent, small ones and large ones, sent alone and inline.
func collides(ctx context.Context, t *Target) error {
	one, err1 := hex.DecodeString(collision1)
	two, err2 := hex.DecodeString(collision2)
	if err := errors.Join(err1, err2); err != nil || md5.Sum(one) != md5.Sum(two) || bytes.Equal(one, two) {
		return notMade("a collision", errors.Join(err, errors.New("it is none")))
	}
	for _, length := range []int{0, 100, 10_000, 300_000} {
		for _, inline := range []bool{false, true} {
			n := sharerNumber.Add(1)
			suffix := bytes.Repeat([]byte{byte(n), byte(n >> 8), 'x', 'y'}, length/4)
			files := [][]byte{append(bytes.Clone(one), suffix...), append(bytes.Clone(two), suffix...)}
			for i, file := range files {
				at := fmt.Sprintf("%s/public/collision-%d-%d", t.Hub, n, i)
				r := request{as: &t.Mallory, body: bytes.NewReader(file), header: headers("Content-Type", "application/octet-stream")}
				to := at + "/file"
				if inline {
					body, _ := json.Marshal(map[string]any{"_attachments": map[string]any{"file": map[string]any{"content_type": "application/octet-stream", "data": file}}})
					r.body, r.header, to = bytes.NewReader(body), asJSON, at
				}
				if a, err := do(ctx, "PUT", to, r); err != nil || a.Status/100 != 2 {
					return notMade("an attachment", fmt.Errorf("%v %w", a, err))
				}
			}
			for i, file := range files {
				a, err := do(ctx, "GET", fmt.Sprintf("%s/public/collision-%d-%d/file", t.Hub, n, i), request{as: &t.Mallory})
				if err != nil || a.Status != 200 {
					return fmt.Errorf("the file is gone: %v %w", a, err)
				}
				if a.Body != string(file) {
					return fmt.Errorf("of two files of %d bytes and one MD5, sent %s, number %d comes back as the other", len(file), map[bool]string{true: "inline", false: "alone"}[inline], i)
				}
			}
		}
	}
	return nil
}

// idleWebSockets are the attacks of item 13.
var idleWebSockets = []Attack{
	{Item: 13, Name: "WebSockets that prove nothing", Run: func(ctx context.Context, t *Target) error {
		return t.idleWebSockets(ctx, "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: loveseat.tls\r\n\r\n")
	}},
	{Item: 13, Name: "WebSockets that prove no device key", Run: func(ctx context.Context, t *Target) error {
		return t.idleWebSockets(ctx, "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: loveseat\r\n\r\n")
	}},
	{Item: 13, Name: "connections to a WebSocket that are none", Run: func(ctx context.Context, t *Target) error { return t.idleWebSockets(ctx, "GET / HTTP/1.1\r\nX: ") }},
}

func (t *Target) idleWebSockets(ctx context.Context, say string) error {
	rest, _ := strings.CutPrefix(t.WebSocket, "ws://")
	_, rest, _ = strings.Cut(rest, "@")
	server, _, _ := strings.Cut(rest, "/")
	conns := idle(ctx, "http://"+server, 300, say)
	defer closeAll(conns)
	if len(conns) < 300 {
		return notMade("300 connections", fmt.Errorf("%d were made", len(conns)))
	}
	for _, c := range conns { // each has its answer, if there is one
		_ = c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		_, _ = c.Read(make([]byte, 512))
	}
	limited, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	began := time.Now()
	cmd := t.Loveseat(limited, "verify", t.WebSocket, t.WebSocket)
	cmd.WaitDelay = time.Second
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("next to %d idle connections an honest opener, after %v: %w: %.300s", len(conns), time.Since(began).Round(time.Millisecond), err, out)
	}
	return nil
}

// slowHashes are the attacks of item 16.
var slowHashes = []Attack{{Item: 16, Name: "passwords that take seconds to check", Run: slowPasswords, Stranger: true}}

// slowPasswords makes accounts whose passwords are hashed five million times, and logs in to them: another logs in as
// soon as before.
func slowPasswords(ctx context.Context, t *Target) error {
	var accounts []Login
	for range 4 {
		l := Login{fmt.Sprintf("slow-%d", sharerNumber.Add(1)), "slow password"}
		at := t.Hub + "/_users/org.couchdb.user:" + l.Name
		made, err := do(ctx, "PUT", at, request{header: asJSON, body: text(fmt.Sprintf(`{"name":%q,"type":"user","roles":[],"password":%q}`, l.Name, l.Password))})
		if err != nil || made.Status/100 != 2 {
			return notMade("an account", fmt.Errorf("%v %w", made, err))
		}
		slow, err := do(ctx, "PUT", at+"?rev="+member(made.Body, "rev"), request{as: &l, header: asJSON, body: text(fmt.Sprintf(
			`{"name":%q,"type":"user","roles":[],"password_scheme":"pbkdf2","pbkdf2_prf":"sha256","iterations":5000000,"salt":"00","derived_key":%q}`, l.Name, strings.Repeat("00", 32)))})
		if err != nil {
			return notMade("a user document", err)
		}
		if slow.Status/100 != 2 {
			return nil // such a password is not taken
		}
		accounts = append(accounts, l)
	}
	fresh := Login{fmt.Sprintf("fresh-%d", sharerNumber.Add(1)), "a good password"} // which has not been checked yet
	made, err := do(ctx, "PUT", t.Direct+"/_users/org.couchdb.user:"+fresh.Name, request{as: &t.Admin, header: asJSON, body: text(fmt.Sprintf(`{"name":%q,"type":"user","roles":[],"password":%q}`, fresh.Name, fresh.Password))})
	if err != nil || made.Status/100 != 2 {
		return notMade("an account", fmt.Errorf("%v %w", made, err))
	}
	var wg sync.WaitGroup
	limited, cancel := context.WithCancel(ctx)
	defer wg.Wait()
	defer cancel()
	for i := range 16 {
		wg.Go(func() {
			l := accounts[i%len(accounts)]
			_, _ = do(limited, "POST", t.Hub+"/_session", request{header: asJSON, body: text(fmt.Sprintf(`{"name":%q,"password":"wrong"}`, l.Name))})
		})
	}
	if !pause(ctx, 300*time.Millisecond) { // so that they are first
		return ctx.Err()
	}
	began := time.Now()
	a, err := do(ctx, "POST", t.Direct+"/_session", request{header: asJSON, body: text(fmt.Sprintf(`{"name":%q,"password":%q}`, fresh.Name, fresh.Password))})
	took := time.Since(began)
	if err != nil || a.Status != 200 {
		return fmt.Errorf("an honest user does not get in, after %v: %v %w", took, a, err)
	}
	if t.Alone && took > Prompt {
		return fmt.Errorf("an honest user waits %v to log in", took)
	}
	return nil
}

// bodies are the attacks of item 17.
var bodies = []Attack{
	{Item: 17, Name: "bodies that are held and not counted: a path with two slashes", Run: holdsBodies("PUT", "/public//held", "application/json"), Stranger: true},
	{Item: 17, Name: "bodies that are held and not counted: a type of several parts", Run: holdsBodies("PUT", "/public/held", "multipart/mixed; boundary=x"), Stranger: true},
	{Item: 17, Name: "bodies that are held and not counted: many documents of several parts", Run: holdsBodies("POST", "/public/_bulk_docs", "multipart/form-data; boundary=x"), Stranger: true},
	{Item: 17, Name: "bodies that are held and not counted: paths that are encoded", Run: holdsBodies("PUT", "/public/held/%2e%2e/x%2fy/", "application/json"), Stranger: true},
	{Item: 17, Name: "bodies that are held and not counted: _local with three slashes", Run: holdsBodies("PUT", "/public/_local//held", "application/json"), Stranger: true},
	{Item: 17, Name: "bodies that are held and not counted: an account", Run: holdsBodies("PUT", "/_users//org.couchdb.user:held", "application/json"), Stranger: true},
}

// holdsBodies sends JSON documents that do not end, far more than the hub may hold, until it takes no more.
func holdsBodies(method, path, kind string) func(context.Context, *Target) error {
	return func(ctx context.Context, t *Target) error {
		const each, conns = 40 << 20, 8
		g := watch(t.HubPID)
		limited, cancel := context.WithTimeout(ctx, 15*time.Second)
		defer cancel()
		head := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: localhost\r\n%sContent-Type: %s\r\nContent-Length: %d\r\n\r\n{\"a\":\"", method, path, basic(t.Mallory), kind, each+1<<20)
		var sent atomic.Int64
		var wg sync.WaitGroup
		for range conns {
			c, err := dial(ctx, t.Hub)
			if err != nil {
				return notMade("a connection", err)
			}
			stop := context.AfterFunc(limited, func() { _ = c.Close() })
			wg.Go(func() {
				defer c.Close()
				defer stop()
				_, _ = io.WriteString(c, head)
				piece := bytes.Repeat([]byte("x"), 256<<10)
				for range each / len(piece) {
					n, err := c.Write(piece)
					sent.Add(int64(n))
					if err != nil {
						return
					}
				}
				_, _ = io.Copy(io.Discard, c) // it waits for the rest
			})
		}
		for before := int64(-1); before != sent.Load() && limited.Err() == nil; pause(limited, 700*time.Millisecond) {
			before = sent.Load()
		}
		cancel()
		wg.Wait()
		return t.within(fmt.Sprintf("the hub, which was sent %d MiB and may hold %d,", sent.Load()>>20, t.Memory>>20), g.end(), t.room())
	}
}

// packed are the attacks of item 18.
var packed = []Attack{{Item: 18, Name: "packed bodies that grow a thousandfold", Run: packedBodies, Stranger: true}}

func zstdBomb(mib int) []byte {
	var b bytes.Buffer
	w, _ := zstd.NewWriter(&b)
	zeros := make([]byte, 1<<20)
	for range mib {
		_, _ = w.Write(zeros)
	}
	_ = w.Close()
	return b.Bytes()
}

// packedJSON is a document of 7 MB that is packed into some KB.
func packedJSON() []byte {
	var b bytes.Buffer
	w, _ := zstd.NewWriter(&b)
	_, _ = io.WriteString(w, `{"docs":[{"_id":"packed","a":"`)
	_, _ = w.Write(bytes.Repeat([]byte("a"), 7_000_000))
	_, _ = io.WriteString(w, `"}]}`)
	_ = w.Close()
	return b.Bytes()
}

const ratio = 100

// kept is the size of a document, or of its attachment "a".
func (t *Target) kept(ctx context.Context, id string, document bool) (n int, err error) {
	if document {
		a, err := do(ctx, "GET", t.Hub+"/public/"+id, request{as: &t.Mallory})
		if err != nil {
			return 0, err
		}
		return len(a.Body), nil
	}
	a, err := do(ctx, "HEAD", t.Hub+"/public/"+id+"/a", request{as: &t.Mallory})
	if err != nil {
		return 0, err
	}
	_, err = fmt.Sscan(a.Header.Get("Content-Length"), &n)
	return n, err
}

func packedBodies(ctx context.Context, t *Target) error {
	var errs []error
	for _, way := range []struct {
		name, coding, kind string
		body               []byte
	}{
		{"attachment", "zstd", "application/octet-stream", zstdBomb(200)}, {"attachment", "gzip", "application/octet-stream", bomb(200)},
		{"attachment", "ZSTD", "text/plain", zstdBomb(100)}, {"attachment", "x-gzip", "text/plain", bomb(100)}, {"attachment", "gzip, gzip", "text/plain", bomb(50)}, {"attachment", "deflate", "text/plain", bomb(50)},
		{"part", "gzip", "", bomb(100)}, {"part", "zstd", "", zstdBomb(100)},
		{"documents", "zstd", "application/json", packedJSON()},
	} {
		id := fmt.Sprintf("packed-%d", sharerNumber.Add(1))
		at, method, r := t.Hub+"/public/"+id+"/a", "PUT", request{as: &t.Mallory, header: headers("Content-Type", way.kind, "Content-Encoding", way.coding), body: bytes.NewReader(way.body)}
		switch way.name {
		case "part": // its own coding, or that of all of it
			head := "--x\r\nContent-Type: application/json\r\n\r\n{\"_attachments\":{\"a\":{\"follows\":true,\"content_type\":\"text/plain\",\"encoding\":\"" + way.coding + fmt.Sprintf("\",\"encoded_length\":%d,\"length\":%d}}}\r\n--x\r\nContent-Encoding: %s\r\n\r\n", len(way.body), len(way.body), way.coding)
			at, r.header = t.Hub+"/public/"+id, headers("Content-Type", "multipart/related; boundary=x")
			r.body = io.MultiReader(text(head), bytes.NewReader(way.body), text("\r\n--x--"))
		case "documents":
			at, method, id = t.Hub+"/public/_bulk_docs", "POST", "packed"
		}
		a, err := do(ctx, method, at, r)
		if err != nil || a.Status/100 != 2 {
			continue
		}
		n, err := t.kept(ctx, id, way.name == "documents")
		if err != nil {
			return notMade("asking what was kept", err)
		}
		if n > ratio*len(way.body) {
			errs = append(errs, fmt.Errorf("%s by %s: %d bytes have become %d, %d-fold", way.name, way.coding, len(way.body), n, n/len(way.body)))
		}
		doc, err := do(ctx, "HEAD", t.Hub+"/public/"+id, request{as: &t.Mallory})
		if err == nil {
			_, _ = do(ctx, "DELETE", t.Hub+"/public/"+id+"?rev="+strings.Trim(doc.Header.Get("ETag"), `"`), request{as: &t.Mallory})
		}
	}
	return errors.Join(errs...)
}

// databases are the attacks of item 21.
var databases = []Attack{
	{Item: 21, Name: "databases of users beyond the limit", Run: manyDatabases, Stranger: true},
	{Item: 21, Name: "a name that now means this machine (DNS rebinding)", Run: rebinds, Stranger: true},
}

func manyDatabases(ctx context.Context, t *Target) error {
	for range t.Databases + 4 {
		name := fmt.Sprintf("crowd-%d", sharerNumber.Add(1))
		if _, err := do(ctx, "PUT", t.Crowded+"/_users/org.couchdb.user:"+name, request{header: asJSON, body: text(fmt.Sprintf(`{"name":%q,"type":"user","roles":[],"password":"a password"}`, name))}); err != nil {
			return notMade("an account", err)
		}
	}
	for range 20 { // they are made a little later
		a, err := do(ctx, "GET", t.Crowded+"/_all_dbs", request{as: &t.Admin})
		var names []string
		if err != nil || a.Status != 200 || json.Unmarshal([]byte(a.Body), &names) != nil {
			return notMade("listing databases", fmt.Errorf("%v %w", a, err))
		}
		if len(names) > t.Databases {
			return fmt.Errorf("there are %d databases, there may be %d", len(names), t.Databases)
		}
		if !pause(ctx, 50*time.Millisecond) {
			return ctx.Err()
		}
	}
	return nil
}

// rebinds asks under names that a page's owner has made to mean this machine. Nobody can make an address mean it.
func rebinds(ctx context.Context, t *Target) error {
	for _, host := range []string{"evil.example", "evil.example:5984", "127.0.0.1.evil.example", "localhost.evil.example", "EVIL.example.", "10.0.0.1.nip.io", "evil.localhost.example", "xn--localhost-.example", "*", "*.local", "localhost@evil.example", "evil.example#@localhost", "localhost, evil.example", "localhost\tevil.example", "evil.example\\@localhost"} {
		for _, path := range []string{"/_session", "/", "/hub", "/_utils/", "/_all_dbs"} {
			for _, raw := range []string{"GET " + path + " HTTP/1.1\r\nHost: " + host + "\r\n", "GET http://" + host + path + " HTTP/1.1\r\nHost: localhost\r\n"} {
				got, err := sendOnce(ctx, t.Hub, raw+basic(t.Mallory)+"Connection: close\r\n\r\n")
				if err != nil {
					return notMade("a connection", err)
				}
				if a, err := parse(got); err == nil && a.Status < 400 {
					return fmt.Errorf("%.60q gets %v", raw, a)
				}
			}
		}
	}
	return nil
}

// sendOnce is send for a request whose answer ends the connection.
func sendOnce(ctx context.Context, server, raw string) (string, error) {
	c, err := dial(ctx, server)
	if err != nil {
		return "", err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	_, _ = io.WriteString(c, raw)
	b, _ := io.ReadAll(io.LimitReader(c, maxAnswer))
	return string(b), nil
}

// locks are the attacks of item 22 on who may log in.
var locks = []Attack{
	{Item: 22, Name: "a path that looks like the relay's, past --require-user", Run: passesUser, Stranger: true},
	{Item: 22, Name: "an administrator who is locked out by others' wrong passwords", Run: locksOut, Stranger: true, Once: true},
}

func passesUser(ctx context.Context, t *Target) error {
	for _, path := range []string{"/hub%2F_relay?ticket=1", "/hub%2f_relay?ticket=1", "/_all_dbs%2F_relay?ticket=1", "/hub/_all_docs%2F_relay?ticket=1", "/hub/x%2F_relay?ticket=1", "/hub/x/%2F_relay?ticket=1", "/hub/_relay/x?ticket=1", "//_relay?ticket=1", "/hub/doc/_relay?ticket=1", "/_session%2F_relay?ticket=1", "/_up%2F_relay?ticket", "/%2F_relay?ticket=1", "/hub/%5Frelay?x=1", "/hub?ticket=1&/_relay"} {
		for _, method := range []string{"GET", "HEAD"} {
			got, err := sendOnce(ctx, t.Guarded, method+" "+path+" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
			if err != nil {
				return notMade("a connection", err)
			}
			if a, err := parse(got); err == nil && a.Status != http.StatusUnauthorized && a.Status != 301 && a.Status != 400 {
				return fmt.Errorf("nobody asks for %s %s and gets %v, not 401", method, path, a)
			}
		}
	}
	return nil
}

// locksOut: after wrong passwords for it, an administrator with the right one gets in within a quarter of a minute.
func locksOut(ctx context.Context, t *Target) error {
	login := func(l Login) (*answer, error) {
		return do(ctx, "POST", t.Guarded+"/_session", request{header: asJSON, body: text(fmt.Sprintf(`{"name":%q,"password":%q}`, l.Name, l.Password))})
	}
	for i := range 8 {
		if _, err := login(Login{t.Chief.Name, fmt.Sprint("wrong ", i)}); err != nil {
			return notMade("a log-in", err)
		}
	}
	for began := time.Now(); ; {
		a, err := login(t.Chief)
		if err != nil {
			return notMade("a log-in", err)
		}
		if a.Status == 200 {
			return nil
		}
		if time.Since(began) > 15*time.Second || !pause(ctx, 500*time.Millisecond) {
			return fmt.Errorf("after eight wrong passwords from the same address the administrator gets %v, Retry-After %s", a, a.Header.Get("Retry-After"))
		}
	}
}
