package e2e

import (
	"strings"
	"testing"
)

// TestWebSocket: a database is opened and synchronized without a hub, by whoever has its URL.
func TestWebSocket(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.edit("server/notes", `{"_id":"a","n":1}`, `{"_id":"b","n":2}`)
	p := w.start(w.command("loveseat", "share", "--websocket", "127.0.0.1:0", w.path("server/notes"), "--json"))
	var serving struct{ URL string }
	w.next(p, "serving", &serving)
	address, secret, ok := strings.Cut(serving.URL, "#")
	if !ok || len(secret) < 26 || !strings.HasPrefix(address, "ws://") {
		t.Fatalf("%s", serving.URL)
	}
	if done := w.sync(w.path("copy/notes"), serving.URL); done.Pulled.Written != 2 || done.Route != "websocket" {
		t.Errorf("%+v", done)
	}
	w.edit("copy/notes", `{"_id":"c","n":3}`)
	if done := w.sync(w.path("copy/notes"), serving.URL); done.Pushed.Written != 1 {
		t.Errorf("%+v", done)
	}
	o := w.start(w.command("loveseat", "open", serving.URL, "--json"))
	var open struct{ URL string }
	w.next(o, "open", &open)
	if n := w.docCount(open.URL); n != 3 {
		t.Errorf("%d documents", n)
	}
	w.check("loveseat", []cliCase{
		{args: "open " + address, status: 1, stderr: `secret is missing or wrong`},
		{args: "open " + strings.Replace(serving.URL, secret, "another-secret-of-some-length", 1), status: 1, stderr: `secret is missing or wrong`},
		{args: "open ws://127.0.0.1:1/notes#s3cret", status: 1, stderr: `connection refused`},
		{args: "open http://127.0.0.1:1/hub x --relay nope", status: 2, stderr: `auto, hub or off`},
	})
}
