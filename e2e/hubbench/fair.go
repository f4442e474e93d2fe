package main

import (
	"context"
	"encoding/base64"
	"fmt"
	"slices"
	"time"
)

// Who greedy is has so many connections, each of which reads a whole database of so many documents again and again.
const (
	greedy     = 64
	greedyDocs = 20 * perBatch
)

// fair has one user ask for as much as one can, and measures how long another waits for a document.
func (b *bench) fair(ctx context.Context) error {
	hub, err := b.startHub(ctx, "fair")
	if err != nil {
		return err
	}
	defer hub.stop()
	batch := bulkStamp("doc-")
	setup := [][]byte{
		request("PUT", "/_users/org.couchdb.user:eve", `{"name":"eve","password":"secret","type":"user","roles":[]}`, basic),
		request("PUT", "/_users/org.couchdb.user:ann", `{"name":"ann","password":"secret","type":"user","roles":[]}`, basic),
		request("PUT", "/db", "", basic),
		request("PUT", "/db/_security", `{"members":{}}`, basic),
		request("PUT", "/db/document", body(1), basic),
	}
	for range greedyDocs / perBatch {
		setup = append(setup, slices.Clone(batch.again()))
	}
	c, err := dial(hub.addr, "")
	if err != nil {
		return err
	}
	defer c.Close()
	for _, r := range setup {
		if status, err := c.do(r); err != nil || status/100 != 2 {
			return fmt.Errorf("status %d: %w", status, err)
		}
	}
	alone, err := b.polite(c)
	if err != nil {
		return err
	}
	crowd, err := newCrew(hub.addr, greedy)
	if err != nil {
		return err
	}
	all := request("GET", "/db/_all_docs?include_docs=true", "", user("eve"))
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = crowd.work(time.Minute, 200, func(int, int) []byte { return all }) // until its connections are closed
	}()
	time.Sleep(time.Second)
	beside, err := b.polite(c)
	crowd.close()
	<-done
	if err != nil {
		return err
	}
	p99 := percentile(beside, 99)
	b.row(fmt.Sprintf("GET of one user while another reads all with %d connections", greedy), "p99 "+p99.String(), "< 1s", p99 < time.Second,
		fmt.Sprintf("p50 %s; alone p50 %s, p99 %s", percentile(beside, 50), percentile(alone, 50), percentile(alone, 99)))
	return nil
}

func user(name string) string {
	return "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(name+":secret"))
}

// polite reads one document after the other, but not many in a second, and returns how long each took, sorted.
func (b *bench) polite(c *conn) ([]time.Duration, error) {
	var took []time.Duration
	get := request("GET", "/db/document", "", user("ann"))
	for end := time.Now().Add(3 * b.turn); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		begun := time.Now()
		if status, err := c.do(get); err != nil || status != 200 {
			return nil, fmt.Errorf("status %d: %w", status, err)
		}
		took = append(took, time.Since(begun))
	}
	slices.Sort(took)
	return took, nil
}
