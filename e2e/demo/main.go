// Command demo does Loveseat's main job with the real binaries on a real data
// set: the countries of the world, each with its flag. `make run` starts it.
package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/loveseat-db/loveseat/e2e/proc"
)

func main() {
	var d demo
	flag.StringVar(&d.bin, "bin", "bin", "`directory` of the binaries hubserver and loveseat")
	flag.StringVar(&d.data, "countries", "e2e/node_modules/world-countries", "`directory` of the npm package world-countries")
	flag.StringVar(&d.dir, "dir", "", "`directory` for the databases (default: a new one, removed at the end)")
	flag.StringVar(&d.addr, "addr", "127.0.0.1:5984", "the hub's address; a free port if that is taken")
	flag.BoolVar(&d.once, "once", false, "end when the job is done instead of waiting for Ctrl-C")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	d.out = os.Stdout
	if err := d.run(ctx); err != nil && ctx.Err() == nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

type demo struct {
	bin, data, dir, addr string
	once                 bool
	out                  io.Writer
	hub                  string // URL of the hub database
	link                 string // of the share
}

func (d *demo) run(ctx context.Context) error {
	if d.dir == "" {
		dir, err := os.MkdirTemp("", "loveseat-demo-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		d.dir = dir
	}
	hub, err := d.startHub(ctx)
	if err != nil {
		return err
	}
	defer hub.Stop()

	if err := d.importCountries(ctx); err != nil {
		return err
	}
	sharer, err := d.share(ctx)
	if err != nil {
		return err
	}
	defer sharer.Stop()
	for _, step := range []func(context.Context) error{d.list, d.query, d.replicate, d.compare} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	if d.once {
		return nil
	}
	d.next()
	<-ctx.Done()
	d.say("\nStopping.")
	return nil
}

func (d *demo) say(format string, args ...any) { fmt.Fprintf(d.out, format+"\n", args...) }

func (d *demo) loveseat() string { return filepath.Join(d.bin, "loveseat") }
func (d *demo) alice() string    { return filepath.Join(d.dir, "alice", "countries") }
func (d *demo) bob() string      { return filepath.Join(d.dir, "bob", "countries") }

// startHub starts the hub on d.addr, or on a free port if that is taken.
func (d *demo) startHub(ctx context.Context) (*proc.Proc, error) {
	var first error
	for _, addr := range []string{d.addr, "127.0.0.1:0"} {
		hub, err := proc.Start(ctx, filepath.Join(d.bin, "hubserver"), "--addr", addr, "--data", filepath.Join(d.dir, "hub"), "--json")
		if err != nil {
			return nil, err
		}
		var e struct{ URL string }
		if err := hub.Next(ctx, "listening", &e); err == nil {
			d.hub = strings.TrimSuffix(e.URL, "/") + "/hub"
			d.say("1. The hub is up: %s", d.hub)
			return hub, nil
		} else if first == nil {
			first = err
		}
	}
	return nil, first
}

func (d *demo) importCountries(ctx context.Context) error {
	out, err := proc.Run(ctx, nil, d.loveseat(), "import", d.alice(), filepath.Join(d.data, "countries.json"),
		"--id", "cca3", "--attach", filepath.Join(d.data, "data"), "--json")
	if err != nil {
		return err
	}
	var n struct{ Created, Attachments, Bytes int64 }
	if err := lastEvent(out, "imported", &n); err != nil {
		return err
	}
	d.say("2. Alice imported %d countries with %d attachments (flags and borders), %.1f MB.", n.Created, n.Attachments, float64(n.Bytes)/1e6)
	return nil
}

func (d *demo) share(ctx context.Context) (*proc.Proc, error) {
	p, err := proc.Start(ctx, d.loveseat(), "share", d.hub, d.alice(), "--name", "countries", "--info", `{"source":"npm world-countries"}`, "--json")
	if err != nil {
		return nil, err
	}
	var e struct{ ID, Link string }
	if err := p.Next(ctx, "shared", &e); err != nil {
		return nil, err
	}
	d.link = e.Link
	d.say("3. Alice shares them: %s", e.Link)
	return p, nil
}

func (d *demo) list(ctx context.Context) error {
	out, err := proc.Run(ctx, nil, d.loveseat(), "ls", d.hub, "--json")
	if err != nil {
		return err
	}
	var shares []struct {
		ID, Name, Peer string
		DocCount       int64 `json:"doc_count"`
	}
	if err := json.Unmarshal(out, &shares); err != nil {
		return fmt.Errorf("loveseat ls: %w: %s", err, out)
	}
	for _, s := range shares {
		d.say("4. Bob lists the hub's shares: %q, %d documents, by peer %s", s.Name, s.DocCount, s.Peer)
	}
	return nil
}

// query asks the opened share in place, without replicating it.
func (d *demo) query(ctx context.Context) error {
	p, err := proc.Start(ctx, d.loveseat(), "open", d.hub, "countries", "--json")
	if err != nil {
		return err
	}
	defer p.Stop()
	var e struct{ URL string }
	if err := p.Next(ctx, "open", &e); err != nil {
		return err
	}
	start := time.Now()
	var found struct {
		Docs []struct {
			Name struct{ Common string }
		}
	}
	query := `{"selector":{"region":"Oceania","landlocked":false,"area":{"$gt":10000}},"fields":["name.common"],"limit":50}`
	if err := fetch(ctx, http.MethodPost, e.URL+"/_find", query, func(b []byte) error { return json.Unmarshal(b, &found) }); err != nil {
		return err
	}
	var names []string
	for _, doc := range found.Docs {
		names = append(names, doc.Name.Common)
	}
	d.say("5. Bob queries the share in place, over WebRTC, in %v: large countries of Oceania are %s.", time.Since(start).Round(time.Millisecond), strings.Join(names, ", "))
	var flag []byte
	if err := fetch(ctx, http.MethodGet, e.URL+"/NZL/nzl.svg", "", func(b []byte) error { flag = b; return nil }); err != nil {
		return err
	}
	want, err := os.ReadFile(filepath.Join(d.data, "data", "nzl.svg"))
	if err != nil {
		return err
	}
	if !bytes.Equal(flag, want) {
		return errors.New("the flag of New Zealand came back different")
	}
	d.say("   The flag of New Zealand: %d bytes, equal to Alice's file.", len(flag))
	return nil
}

type counts struct {
	Read    int64 `json:"docs_read"`
	Written int64 `json:"docs_written"`
	Failed  int64 `json:"doc_write_failures"`
	Bytes   int64 `json:"bytes"`
}

type complete struct {
	Pushed, Pulled counts
	Route          string
}

// replicate copies the share, then keeps both sides in sync while both edit.
func (d *demo) replicate(ctx context.Context) error {
	start := time.Now()
	out, err := proc.Run(ctx, nil, d.loveseat(), "sync", d.bob(), d.link, "--json")
	if err != nil {
		return err
	}
	var c complete
	if err := lastEvent(out, "complete", &c); err != nil {
		return err
	}
	took := time.Since(start)
	d.say("6. Bob replicates two ways: pulled %d documents (%.1f MB), pushed %d, %d failed; route %s; %v, %.1f MB/s with process start and connecting.",
		c.Pulled.Written, float64(c.Pulled.Bytes)/1e6, c.Pushed.Written, c.Pulled.Failed+c.Pushed.Failed, c.Route, took.Round(time.Millisecond), float64(c.Pulled.Bytes)/1e6/took.Seconds())

	live, err := proc.Start(ctx, d.loveseat(), "sync", d.bob(), d.link, "--live", "--json")
	if err != nil {
		return err
	}
	defer live.Stop()
	start = time.Now()
	if err := d.editBothSides(ctx); err != nil {
		return err
	}
	d.say("7. Both edited while a live sync ran; each has the other's edit after %v, starting three programs included.", time.Since(start).Round(time.Millisecond))
	_ = live.Interrupt()
	if err := live.Next(ctx, "complete", &c); err != nil {
		return err
	}
	d.say("   The live sync pulled %d and pushed %d, %d failed; route %s.", c.Pulled.Written, c.Pushed.Written, c.Pulled.Failed+c.Pushed.Failed, c.Route)
	return nil
}

// editBothSides writes a note at each side and waits until the other side has it.
func (d *demo) editBothSides(ctx context.Context) error {
	for db, note := range map[string]string{
		d.alice(): `{"_id":"note-alice","text":"The kea is a parrot of New Zealand."}`,
		d.bob():   `{"_id":"note-bob","text":"The kakapo is another."}`,
	} {
		if _, err := proc.Run(ctx, strings.NewReader(note), d.loveseat(), "import", db, "-"); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for _, db := range []string{d.alice(), d.bob()} {
		for {
			out, err := proc.Run(ctx, nil, d.loveseat(), "export", db)
			if err != nil {
				return err
			}
			if bytes.Contains(out, []byte("note-alice")) && bytes.Contains(out, []byte("note-bob")) {
				break
			}
		}
	}
	return nil
}

// compare exports both databases in full and compares the bytes.
func (d *demo) compare(ctx context.Context) error {
	var sums []string
	for _, db := range []string{d.alice(), d.bob()} {
		out, err := proc.Run(ctx, nil, d.loveseat(), "export", db)
		if err != nil {
			return err
		}
		sums = append(sums, fmt.Sprintf("%x", sha256.Sum256(out))[:16])
	}
	if sums[0] != sums[1] {
		return fmt.Errorf("the databases differ: %s and %s", sums[0], sums[1])
	}
	d.say("8. Alice's and Bob's databases are equal, attachments included: SHA-256 %s… of both exports.", sums[0])
	return nil
}

func (d *demo) next() {
	d.say(`
Hub and share stay up until Ctrl-C. Try in another terminal:

  %[1]s ls %[2]s
  %[1]s open %[2]s countries        # then: curl the URL it prints
  %[1]s sync ./data/countries %[3]s`, d.loveseat(), d.hub, d.link)
}

// lastEvent decodes the last event of the name in JSON lines.
func lastEvent(lines []byte, name string, out any) error {
	all := bytes.Split(bytes.TrimSpace(lines), []byte("\n"))
	for i := len(all) - 1; i >= 0; i-- {
		var head struct{ Event string }
		if json.Unmarshal(all[i], &head) == nil && head.Event == name {
			return json.Unmarshal(all[i], out)
		}
	}
	return fmt.Errorf("no event %q in %s", name, lines)
}

func fetch(ctx context.Context, method, url, body string, use func([]byte) error) error {
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s: %s: %s", method, url, resp.Status, b)
	}
	return use(b)
}
