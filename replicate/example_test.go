package replicate_test

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/loveseat-db/loveseat/localdb"
	"github.com/loveseat-db/loveseat/replicate"
)

// Two databases that both sides have edited become equal. An opened share or a
// hub's database goes in the place of either.
func ExampleSync() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "sync")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	store, err := localdb.OpenStore(dir, localdb.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()
	for _, name := range []string{"mine", "yours"} {
		if err := store.Create(ctx, name); err != nil {
			log.Fatal(err)
		}
		if _, err := store.DB(name).Put(ctx, "from-"+name, map[string]any{"hello": name}); err != nil {
			log.Fatal(err)
		}
	}

	result, err := replicate.Sync(ctx, store.DB("mine"), store.DB("yours"), replicate.Options{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("pushed", result.Pushed.DocsWritten, "pulled", result.Pulled.DocsWritten)

	result, err = replicate.Sync(ctx, store.DB("mine"), store.DB("yours"), replicate.Options{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("again: pushed", result.Pushed.DocsWritten, "pulled", result.Pulled.DocsWritten)
	// Output:
	// pushed 1 pulled 1
	// again: pushed 0 pulled 0
}
