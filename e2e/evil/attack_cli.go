package evil

import (
	"bytes"
	"context"
	"debug/buildinfo"
	"errors"
	"fmt"
	"go/version"
	"io"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"
	"unicode"

	"github.com/loveseat-db/loveseat/e2e/signed"
	"github.com/loveseat-db/loveseat/internal/hubdoc"
)

// maxRSS is what a process that has ended took at most.
func maxRSS(p *os.ProcessState) int64 {
	if p == nil {
		return 0
	}
	if u, ok := p.SysUsage().(*syscall.Rusage); ok {
		return u.Maxrss << 10
	}
	return 0
}

// A shareDoc is a signed one, with who signed it.
type shareDoc struct {
	peer *signed.Peer
	id   string
	body []byte
}

// publish writes it into a hub database as Mallory and its peer, and returns its URL with its revision, "" if it is refused.
func (t *Target) publish(ctx context.Context, db string, s shareDoc) (at string, a *answer, err error) {
	at = t.Hub + "/" + db + "/" + s.id
	a, err = do(ctx, "PUT", at, request{as: &t.Mallory, header: t.proven(s.peer, db, "PUT"), body: bytes.NewReader(s.body)})
	if err != nil || a.Status/100 != 2 {
		return "", a, err
	}
	return at + "?rev=" + member(a.Body, "rev"), a, nil
}

// proven are the headers of a request by which a peer writes.
func (t *Target) proven(p *signed.Peer, db, method string) http.Header {
	return headers("Content-Type", "application/json", hubdoc.ProofHeader, p.Prove(t.Hub, db, method, hubdoc.ToClaim))
}

// manyShareDocs makes shares of 30 KB, so many of each peer.
func manyShareDocs(peers, each int) (all []shareDoc, err error) {
	info := []byte(`"` + strings.Repeat("i", 30_000) + `"`)
	for range peers {
		p, err := signed.New()
		if err != nil {
			return nil, err
		}
		for i := range each {
			id, body, err := p.ShareWith(i, func(s *hubdoc.Share) { s.Name, s.Info = fmt.Sprint("flood ", i), info })
			if err != nil {
				return nil, err
			}
			all = append(all, shareDoc{p, id, body})
		}
	}
	return all, nil
}

// oldParts looks at what the hub is built of.
func oldParts(_ context.Context, t *Target) error {
	info, err := buildinfo.ReadFile(t.HubBinary)
	if err != nil {
		return notMade("reading the binary", err)
	}
	if version.Compare(info.GoVersion, "go1.26.11") < 0 {
		return fmt.Errorf("it is built by %s", info.GoVersion)
	}
	for _, m := range info.Deps {
		if m.Path == "github.com/labstack/echo/v4" && version.Compare("go"+strings.TrimPrefix(m.Version, "v"), "go4.16.1") < 0 {
			return fmt.Errorf("it has %s %s", m.Path, m.Version)
		}
	}
	return nil
}

// terminal are the attacks of item 22 on who looks at what others wrote.
var terminal = []Attack{
	{Item: 22, Name: "escapes in the names of shares, at a terminal", Run: namesInTerminal},
	{Item: 22, Name: "escapes in what a sharer answers, at a terminal", Run: reasonsInTerminal},
}

// escapes are what a terminal or a reader is deceived by.
var escapes = []string{"\u009b31m", "\u0090q\u009c", "\u202etxt.exe", "\u2066a\u2069", "\u061c", "\u200f", "\u2028", "\x1b]0;owned\x07", "\x1b[2J", "\x08\x08", "\x7f"}

// clean is nil for a text without what deceives.
func clean(what, s string) error {
	for _, r := range s {
		if r != '\n' && r != '\t' && (unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == '\u2028' || r == '\u2029') {
			at := strings.IndexRune(s, r)
			return fmt.Errorf("%s: %U in %q", what, r, s[max(0, at-30):min(len(s), at+30)])
		}
	}
	return nil
}

func namesInTerminal(ctx context.Context, t *Target) error {
	var kept []shareDoc
	defer func() { cleanUp(ctx, t, "hub", kept) }()
	publish := func(name, db string) (*answer, error) {
		p, err := signed.New() // one for each: a peer's shares are counted
		if err != nil {
			return nil, err
		}
		id, body, err := p.ShareWith(0, func(s *hubdoc.Share) { s.Name, s.DB = name, db })
		if err != nil {
			return nil, err
		}
		s := shareDoc{p, id, body}
		at, a, err := t.publish(ctx, "hub", s)
		if at != "" {
			s.id = at
			kept = append(kept, s)
		}
		return a, err
	}
	if a, err := publish("plain", "plain"); err != nil || len(kept) == 0 {
		return notMade("publishing a share", fmt.Errorf("%v %w", a, err))
	}
	for _, escape := range escapes {
		for _, s := range [][2]string{{"name" + escape + "end", "db"}, {"name", "db" + escape + "end"}} {
			if _, err := publish(s[0], s[1]); err != nil {
				return notMade("a request", err)
			}
		}
	}
	hub := with(t.Direct, t.Ann) + "/hub"
	out, _ := t.Loveseat(ctx, "ls", hub).CombinedOutput()
	errs := []error{clean("loveseat ls", string(out))}
	limited, cancel := context.WithTimeout(ctx, 1500*time.Millisecond)
	defer cancel()
	w := t.Loveseat(limited, "ls", hub, "--watch")
	w.WaitDelay = time.Second
	w.Cancel = func() error { return w.Process.Signal(os.Interrupt) }
	out, _ = w.CombinedOutput()
	return errors.Join(append(errs, clean("loveseat ls --watch", string(out)))...)
}

func reasonsInTerminal(ctx context.Context, t *Target) error {
	reason := strings.Join(escapes, "-")
	s, err := t.sharer(ctx, func(w io.Writer, _ *http.Request) bool {
		body := quoted(map[string]string{"error": "forbidden" + reason, "reason": "Because " + reason})
		_, err := fmt.Fprintf(w, "HTTP/1.1 403 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", strings.ReplaceAll(reason, "\n", ""), len(body), body)
		return err == nil
	})
	if err != nil {
		return err
	}
	defer s.Close()
	s.mu.Lock()
	s.refuses = true
	s.mu.Unlock()
	hub := with(t.Direct, t.Ann) + "/hub"
	var errs []error
	for _, args := range [][]string{
		{"open", hub, s.share.ID(), "--network", "127.0.0.0/8"},
		{"sync", fmt.Sprintf("%s/terminal-%d/notes", t.Dir, sharerNumber.Add(1)), t.Direct + "/hub/share:" + s.share.ID(), "--pull", "--network", "127.0.0.0/8"},
	} {
		limited, cancel := context.WithTimeout(ctx, 6*time.Second)
		cmd := t.Loveseat(limited, args...)
		cmd.WaitDelay = time.Second
		out, _ := cmd.CombinedOutput()
		cancel()
		errs = append(errs, clean("loveseat "+args[0], string(out)))
	}
	return errors.Join(errs...)
}

// passwords are the attacks of item 23, which nobody makes but the user.
var passwords = []Attack{{Item: 23, Name: "passwords that are printed, or replaced where a command is to be copied", Run: printsPasswords, Stranger: true, Once: true}}

func printsPasswords(ctx context.Context, t *Target) error {
	host := strings.TrimPrefix(t.Direct, "http://")
	var errs []error
	for _, password := range []string{"SECHALF#RETHALF", "SECHALF@RETHALF", "SECHALF/RETHALF", "SECHALF?RETHALF", "SECHALF@RETHALF/X", "SECHALF%RETHALF", "SECHALF RETHALF", "#SECHALFRETHALF", "SECHALF:RETHALF@"} {
		address := "http://zoe:" + password + "@" + host + "/hub"
		for _, args := range [][]string{{"ls", address}, {"open", address, "x"}, {"share", address, t.Dir + "/none/notes"}, {"sync", t.Dir + "/none/notes", address}, {"doctor", address}, {"verify", t.Dir + "/none/notes", address}} {
			limited, cancel := context.WithTimeout(ctx, 8*time.Second)
			cmd := t.Loveseat(limited, args...)
			cmd.WaitDelay = time.Second
			out, _ := cmd.CombinedOutput()
			cancel()
			for _, half := range []string{"SECHALF", "RETHALF"} {
				if strings.Contains(string(out), half) {
					errs = append(errs, fmt.Errorf("loveseat %s http://zoe:%s@…: %.200s", args[0], password, out))
					break
				}
			}
		}
	}
	out, _ := t.Loveseat(ctx, "ls", with(t.Direct, t.Ann)+"/flood").CombinedOutput()
	if strings.Contains(string(out), "xxxxx") {
		errs = append(errs, fmt.Errorf("the command that loveseat ls tells to copy has no password: %s", out))
	}
	if len(errs) > 5 {
		return fmt.Errorf("%d times: %w", len(errs), errors.Join(errs[:5]...))
	}
	return errors.Join(errs...)
}
