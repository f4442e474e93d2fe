package evil

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// An answer is what came back, of which the body is read up to a limit.
type answer struct {
	Status int
	Header http.Header
	Body   string
}

func (a *answer) String() string { return fmt.Sprintf("%d %.300s", a.Status, a.Body) }

const maxAnswer = 8 << 20

// client is the hostile side's HTTP client: nothing is unpacked or followed.
var client = &http.Client{
	Transport:     &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 32, IdleConnTimeout: 5 * time.Second},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// Done closes the connections that are kept.
func Done() { client.CloseIdleConnections() }

// A request is what is sent by [Target.do]. The zero value of each member leaves it out.
type request struct {
	as     *Login
	header http.Header
	body   io.Reader
	via    *http.Client // nil: client
	host   string
}

func text(s string) *strings.Reader { return strings.NewReader(s) }

func headers(pairs ...string) http.Header {
	h := http.Header{}
	for i := 0; i < len(pairs); i += 2 {
		h.Set(pairs[i], pairs[i+1])
	}
	return h
}

var asJSON = headers("Content-Type", "application/json")

// do makes a request of the hostile side, or of an honest user if the URL is one of Direct.
func do(ctx context.Context, method, address string, r request) (*answer, error) {
	req, err := http.NewRequestWithContext(ctx, method, address, r.body)
	if err != nil {
		return nil, err
	}
	if r.header != nil {
		req.Header = r.header.Clone()
	}
	if r.as != nil {
		req.SetBasicAuth(r.as.Name, r.as.Password)
	}
	req.Host = r.host
	c := r.via
	if c == nil {
		c = client
	}
	resp, err := c.Do(req)
	if err != nil {
		return nil, err
	}
	return read(resp)
}

func read(resp *http.Response) (*answer, error) {
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	a := &answer{resp.StatusCode, resp.Header, string(b)}
	if len(b) == maxAnswer {
		return a, nil
	}
	return a, err
}

// send writes raw bytes on a connection of their own to the server of a URL, and returns all that comes back
// until that ends or some time has passed without a byte.
func send(ctx context.Context, server, bytes string) (string, error) {
	c, err := dial(ctx, server)
	if err != nil {
		return "", err
	}
	defer c.Close()
	return exchange(c, bytes), nil
}

// silence is after how long nothing more is expected.
const silence = 700 * time.Millisecond

// together calls fn for each of some texts, a few at a time, and joins the errors.
func together(all []string, fn func(string) error) error {
	errs := make([]error, len(all))
	turns := make(chan struct{}, 8)
	var wg sync.WaitGroup
	for i, s := range all {
		turns <- struct{}{}
		wg.Go(func() {
			defer func() { <-turns }()
			errs[i] = fn(s)
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func exchange(c net.Conn, text string) string {
	wrote := make(chan struct{})
	go func() {
		defer close(wrote)
		_ = c.SetWriteDeadline(time.Now().Add(20 * time.Second))
		_, _ = io.WriteString(c, text)
	}()
	var out bytes.Buffer
	buf := make([]byte, 32<<10)
	for out.Len() < maxAnswer {
		_ = c.SetReadDeadline(time.Now().Add(silence))
		n, err := c.Read(buf)
		out.Write(buf[:n])
		if err != nil {
			break
		}
	}
	_ = c.Close()
	<-wrote
	return out.String()
}

func dial(ctx context.Context, server string) (net.Conn, error) {
	u, err := url.Parse(server)
	if err != nil {
		return nil, err
	}
	return new(net.Dialer).DialContext(ctx, "tcp", u.Host)
}

// basic is the header of a log-in, for raw requests.
func basic(l Login) string {
	return "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(l.Name+":"+l.Password)) + "\r\n"
}

// parse reads the first answer of what came back.
func parse(text string) (*answer, error) {
	resp, err := http.ReadResponse(bufio.NewReader(strings.NewReader(text)), nil)
	if err != nil {
		return nil, err
	}
	a, err := read(resp)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	return a, err
}

// member is a text of a JSON object, "" if it is not there.
func member(body, name string) string {
	var m map[string]any
	if json.Unmarshal([]byte(body), &m) != nil {
		return ""
	}
	s, _ := m[name].(string)
	return s
}

func quoted(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprintf("%q", err)
	}
	return string(b)
}

// with adds log-in to a URL, as the command line takes it.
func with(address string, l Login) string {
	u, err := url.Parse(address)
	if err != nil {
		return address
	}
	u.User = url.UserPassword(l.Name, l.Password)
	return u.String()
}
