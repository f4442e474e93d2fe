package peeradapter

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/loveseat-db/loveseat/share"
)

// A pipePost carries the signals of one process over a pair of pipes, as lines of JSON.
type pipePost struct {
	self  string
	in    io.Reader
	out   io.Writer
	ready <-chan struct{} // Receive waits for it; nil: not
}

func (p pipePost) Send(_ context.Context, s share.Signal) error {
	s.From = p.self
	return json.NewEncoder(p.out).Encode(s)
}

func (p pipePost) Receive(ctx context.Context, fn func(share.Signal)) error {
	if p.ready != nil {
		<-p.ready
	}
	lines := bufio.NewScanner(p.in)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var s share.Signal
		if err := json.Unmarshal(lines.Bytes(), &s); err != nil {
			return err
		}
		fn(s)
	}
	<-ctx.Done()
	return ctx.Err()
}

const childEnv = "LOVESEAT_TEST_CHILD"

// childMain is a peer that writes without end on every stream.
func childMain(self string) {
	ready := make(chan struct{})
	t, err := New(Config{}, pipePost{self, os.Stdin, os.Stdout, ready})
	if err != nil {
		panic(err)
	}
	l, err := t.Listen(context.Background(), self)
	if err != nil {
		panic(err)
	}
	close(ready)
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			for err == nil {
				_, err = c.Write(make([]byte, 1<<16))
			}
		}()
	}
}

// startChild runs this test binary as the peer self, whose signals join p.
func startChild(t *testing.T, p *post, self string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+self)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	child, post := pipePost{self, out, in, nil}, p.mailbox(self)
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		cancel()
	})
	go func() {
		_ = child.Receive(ctx, func(s share.Signal) { _ = post.Send(ctx, s) })
	}()
	go func() {
		_ = post.Receive(ctx, func(s share.Signal) {
			b, _ := json.Marshal(s)
			_, _ = fmt.Fprintf(in, "%s\n", b)
		})
	}()
	return cmd
}

// lostAfter is the real time for bars and little otherwise.
func lostAfter() time.Duration {
	if os.Getenv("LOVESEAT_BARS") != "" {
		return 0
	}
	return time.Second
}

// lostTime is how long a peer may be gone without being noticed.
const lostTime = restMin + pathSilent + pathLost + 2*restartPause + restartTime + 10*time.Second

// A peer that is killed or frozen in the middle of a transfer is noticed within seconds,
// and the next dial reaches its successor, or itself when it goes on.
func TestDeadProcess(t *testing.T) {
	for name, c := range map[string]struct {
		hurt, heal syscall.Signal
	}{"killed": {hurt: syscall.SIGKILL}, "frozen": {syscall.SIGSTOP, syscall.SIGCONT}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := new(post)
			a := newTransport(t, p, "a", Config{lostAfter: lostAfter()})
			child := startChild(t, p, "b1")
			conn := dial(t, a, "b1")
			_, err := io.CopyN(io.Discard, conn, 1<<20)
			must(t, err)
			must(t, child.Process.Signal(c.hurt))
			start := time.Now()
			_, err = io.Copy(io.Discard, conn)
			took := time.Since(start)
			if !errors.Is(err, ErrPeerLost) || took > lostTime {
				t.Errorf("%v after %v", err, took)
			}
			t.Logf("noticed after %v", took)
			if c.heal != 0 {
				must(t, child.Process.Signal(c.heal))
			} else {
				startChild(t, p, "b1")
			}
			_, err = io.CopyN(io.Discard, dial(t, a, "b1"), 1<<20)
			must(t, err)
		})
	}
}

// So is one that the network cuts off, hub and all, by both; they find each other when it is back.
func TestPeerCutOff(t *testing.T) {
	t.Parallel()
	s := simulate(t, conditions{lostAfter: lostAfter()})
	go echo(listen(t, s.sharer, "sharer"))
	conn := dial(t, s.opener, "sharer")
	must(t, ping(conn))
	s.cut.Store(true)
	s.hub.Store(true)
	start := time.Now()
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, ErrPeerLost) || time.Since(start) > lostTime {
		t.Errorf("%v after %v", err, time.Since(start))
	}
	t.Logf("noticed after %v", time.Since(start))
	waiting := make(chan error, 1)
	go func() {
		c, err := s.opener.DialContext(t.Context(), "", "sharer")
		if err == nil {
			err = ping(c)
		}
		waiting <- err
	}()
	waitFor(t, func() bool { _, connected := s.sharer.Stats("opener"); return !connected })
	s.cut.Store(false)
	s.hub.Store(false)
	must(t, <-waiting)
}
