package peeradapter_test

import (
	"context"
	"fmt"
	"os"

	"github.com/loveseat-db/loveseat/localdb"
	"github.com/loveseat-db/loveseat/peeradapter"
)

// One service gives another access to its database, which need not replicate it.
func ExampleServe() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	dir, _ := os.MkdirTemp("", "example")
	defer os.RemoveAll(dir)
	store, _ := localdb.OpenStore(dir, localdb.Options{})
	defer store.Close()
	_ = store.Create(ctx, "notes")

	secret := "only-the-two-services-know-it"
	address, ended := make(chan string, 1), make(chan error, 1)
	o := peeradapter.ServeOptions{Secret: secret, OnListen: func(a string) { address <- a }}
	go func() { ended <- peeradapter.Serve(ctx, "ws://127.0.0.1:0", o, store.DB("notes")) }()

	// The other service:
	remote, err := peeradapter.Open(ctx, <-address+"#"+secret, peeradapter.WireOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	db := remote.DB("")
	rev, err := db.Put(ctx, "hello", map[string]string{"text": "world"})
	fmt.Println(db.Name(), rev[:2], err, remote.Route())

	_ = remote.Close()
	stop()
	fmt.Println(<-ended)
	// Output:
	// notes 1- <nil> websocket
	// <nil>
}
