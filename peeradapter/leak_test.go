package peeradapter

import (
	"os"
	"runtime"
	"testing"

	"go.uber.org/goleak"
)

// Connections leave nothing behind: no goroutine, no descriptor.
func TestNoLeaks(t *testing.T) {
	p := new(post)
	b := newTransport(t, p, "b", Config{})
	go echo(listen(t, b, "b"))
	connect := func() {
		a := newTransport(t, p, "a", Config{})
		must(t, ping(dial(t, a, "b")))
		must(t, a.Close())
		waitFor(t, func() bool { _, ok := b.Stats("a"); return !ok })
	}
	connect()
	ignore := goleak.IgnoreCurrent()
	fds := openFiles(t)
	for range 30 {
		connect()
	}
	waitFor(t, func() bool { return openFiles(t) <= fds })
	if err := goleak.Find(ignore); err != nil {
		t.Error(err)
	}
}

func openFiles(t *testing.T) int {
	if runtime.GOOS != "linux" {
		t.Skip("counts /proc/self/fd")
	}
	files, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	return len(files)
}
