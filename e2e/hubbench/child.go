package main

import (
	"context"

	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/loveseat-db/loveseat/e2e/proc"
)

// echo serves the bytes of its standard input, whatever is asked: what HTTP
// alone costs. The hub's process is compared with this one's.
func echo(ctx context.Context) error {
	body, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Printf("{\"event\":\"listening\",\"url\":\"http://%s\"}\n", ln.Addr())
	length := strconv.Itoa(len(body))
	context.AfterFunc(ctx, func() { ln.Close() })
	err = http.Serve(ln, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { //nolint:gosec // ends with this program
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", length)
		_, _ = w.Write(body)
	}))
	if ctx.Err() == nil {
		return err
	}
	return nil //nolint:nilerr // it was told to end
}

// A server is a process that is measured.
type server struct {
	*proc.Proc
	addr string
}

func start(ctx context.Context, cmd *exec.Cmd) (*server, error) {
	p, err := proc.StartCmd(cmd)
	if err != nil {
		return nil, err
	}
	var e struct{ URL string }
	if err := p.Next(ctx, "listening", &e); err != nil {
		return nil, err
	}
	return &server{p, strings.TrimSuffix(strings.TrimPrefix(e.URL, "http://"), "/")}, nil
}

func startEcho(ctx context.Context, body []byte) (*server, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, "-echo")
	cmd.Stdin = strings.NewReader(string(body))
	return start(ctx, cmd)
}

const admin = "root:secret"

// startHub starts a hub with an administrator whose hub database is open to everybody.
func (b *bench) startHub(ctx context.Context, name string, args ...string) (*server, error) {
	args = append([]string{"--addr", "127.0.0.1:0", "--data", filepath.Join(b.dir, name), "--json", "--log", "warn",
		"--hub-database", "hub list=* publish=* open=* signal=*",
		"--limit-requests", "-1", "--limit-signals", "-1", "--limit-waiting", "-1", "--limit-waiting-bytes", "-1", "--limit-feeds", "-1", "--limit-concurrent", "-1"}, args...)
	cmd := exec.CommandContext(ctx, filepath.Join(b.bin, "hubserver"), args...)
	cmd.Env = append(os.Environ(), "LOVESEAT_ADMIN="+admin)
	return start(ctx, cmd)
}

// cpu is the processor time that the process has used.
func (s *server) cpu() time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.Pid()))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(stat), ") ") // the name in parentheses may hold anything
	f := strings.Fields(rest)
	if len(f) < 13 {
		return 0
	}
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	return time.Duration(user+system) * (time.Second / 100) // USER_HZ
}

// rss is the memory of the process, in bytes.
func (s *server) rss() int64 {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", s.Pid()))
	if f := strings.Fields(string(stat)); err == nil && len(f) > 1 {
		pages, _ := strconv.ParseInt(f[1], 10, 64)
		return pages * int64(os.Getpagesize())
	}
	return 0
}

func (s *server) stop() {
	_ = s.Stop()
}

// raiseFiles lets this process and those it starts have as many files open as they may.
func raiseFiles() (int, error) {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return 0, err
	}
	l.Cur = l.Max
	err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l)
	return int(min(l.Cur, 1<<30)), err
}
