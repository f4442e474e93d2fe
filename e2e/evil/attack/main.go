// Attack makes the attacks of package evil that need nothing but a share, on one that is served elsewhere, such as by a
// browser page: on a hub without accounts, and prints a JSON line for each: {"item":3,"name":"…","error":"…"}.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/loveseat-db/loveseat/e2e/evil"
)

func main() {
	t := &evil.Target{AnyNetwork: true}
	flag.StringVar(&t.Hub, "hub", "", "`URL` of the hub's server")
	flag.StringVar(&t.Garden.ID, "share", "", "`ID` of the share")
	flag.StringVar(&t.Garden.DB, "db", "", "`name` of its database")
	flag.StringVar(&t.HiddenID, "hidden", "", "`id` of a document that the share's filter hides; empty: it has none")
	flag.StringVar(&t.AbsentID, "absent", "", "`id` of as many bytes of one that is not there")
	flag.StringVar(&t.LeftID, "left", "", "`id` of a document that has left the filter")
	flag.StringVar(&t.LeftRev, "left-rev", "", "its `revision` that was in it")
	secrets := flag.String("secrets", "", "`texts` that must not be told, with commas between them")
	flag.Parse()
	known := map[string]string{}
	for _, s := range strings.FieldsFunc(*secrets, func(r rune) bool { return r == ',' }) {
		known[s] = "the secret " + s
	}
	t.Direct, t.Library, t.Loot = t.Hub, t.Garden, evil.NewLoot(known)
	if err := run(t); err != nil {
		fmt.Fprintln(os.Stderr, "attack:", err)
		os.Exit(1)
	}
}

func run(t *evil.Target) (err error) {
	if t.Dir, err = os.MkdirTemp("", "loveseat-attack-"); err != nil {
		return err
	}
	defer os.RemoveAll(t.Dir)
	out := json.NewEncoder(os.Stdout)
	for _, a := range append(evil.OfShares(t.HiddenID != ""), evil.Attack{Item: 3, Name: "secrets in what was received", Run: func(context.Context, *evil.Target) error { return t.Loot.Err() }}) {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		said := ""
		made := a.Run(ctx, t)
		if made != nil {
			said = made.Error()
		}
		cancel()
		if err := out.Encode(map[string]any{"item": a.Item, "name": a.Name, "error": said}); err != nil {
			return err
		}
		if errors.Is(made, evil.ErrNotMade) { // the sharer is gone: the others would only wait for it
			return nil
		}
	}
	return nil
}
