// Command evilshare is a sharer that answers with what a file says, for the browser tests:
//
//	evilshare HUB ANSWERS
//
// ANSWERS is a JSON object of answers, each as it goes over the wire but with \n for line ends in its head
// and without its Content-Length, by the path below the database's: {"/x.html": ["200 OK\nContent-Type: text/html", "<script>…"]}.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"path"
	"strings"
	"syscall"

	"github.com/go-kivik/kivik/v4"
	_ "github.com/go-kivik/kivik/v4/couchdb" // the hub's driver

	"github.com/loveseat-db/loveseat/e2e/evil/sharer"
	"github.com/loveseat-db/loveseat/localdb"
	"github.com/loveseat-db/loveseat/peeradapter"
	"github.com/loveseat-db/loveseat/share"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "evilshare:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, hub, file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var answers map[string][2]string
	if err := json.Unmarshal(text, &answers); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "evilshare-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	store, err := localdb.OpenStore(dir, localdb.Options{})
	if err != nil {
		return err
	}
	defer store.Close()
	if err := store.Create(ctx, "notes"); err != nil {
		return err
	}
	u, err := url.Parse(hub)
	if err != nil {
		return err
	}
	name := path.Base(u.Path)
	u.Path = "/"
	client, err := kivik.New("couch", u.String())
	if err != nil {
		return err
	}
	defer client.Close()
	peer, s, err := sharer.Share(ctx, client.DB(name), store.DB("notes"), share.Config{
		NewTransport: func(s share.Signaler) (share.Transport, error) { return peeradapter.New(peeradapter.Config{}, s) },
	}, func(w io.Writer, r *http.Request) bool { return answer(w, r, answers) })
	if err != nil {
		return err
	}
	defer peer.Close()
	fmt.Printf(`{"event":"shared","id":%q}`+"\n", s.ID())
	<-ctx.Done()
	return nil
}

func answer(w io.Writer, r *http.Request, answers map[string][2]string) bool {
	text := sharer.Database
	if a, ok := answers[strings.TrimPrefix(r.URL.Path, "/notes")]; ok {
		text = sharer.Answer(a[0], a[1])
	}
	_, err := io.WriteString(w, text)
	return err == nil
}
