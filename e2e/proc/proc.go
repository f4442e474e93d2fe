// Package proc runs the real binaries for the demonstration and the end-to-end
// tests, and reads the JSON events that they print with --json.
package proc

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// A Proc is a running program that prints one JSON event a line.
type Proc struct {
	cmd    *exec.Cmd
	events chan json.RawMessage
	exited chan struct{}
	err    error // after exited
	intr   sync.Once
	killed atomic.Bool

	mu     sync.Mutex
	stderr bytes.Buffer
}

// Start runs a program until it ends, ctx ends (SIGINT, SIGKILL 10 s later) or
// it is stopped. Its standard error is kept for error messages.
func Start(ctx context.Context, name string, args ...string) (*Proc, error) {
	return StartCmd(exec.CommandContext(ctx, name, args...))
}

// StartCmd is Start for a command made by [exec.CommandContext] whose standard
// input, environment or directory the caller has set.
func StartCmd(cmd *exec.Cmd) (*Proc, error) {
	p := &Proc{
		cmd:    cmd,
		events: make(chan json.RawMessage, 1024),
		exited: make(chan struct{}),
	}
	p.cmd.Cancel = p.Interrupt
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a terminal's Ctrl-C reaches it once, through us
	p.cmd.WaitDelay = 10 * time.Second
	p.cmd.Stderr = p
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("%s: %w (make build)", cmd.Path, err)
	}
	go p.read(out)
	return p, nil
}

// Write takes the program's standard error.
func (p *Proc) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stderr.Write(b)
}

// Stderr returns what the program wrote to its standard error so far.
func (p *Proc) Stderr() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stderr.String()
}

func (p *Proc) read(out io.Reader) {
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		if line := bytes.Clone(lines.Bytes()); json.Valid(line) {
			p.keep(line)
		}
	}
	p.err = p.cmd.Wait()
	close(p.exited)
	close(p.events)
}

// keep puts an event where Next finds it. Of those that nobody waits for the latest 1024 are kept.
func (p *Proc) keep(line json.RawMessage) {
	for {
		select {
		case p.events <- line:
			return
		default:
		}
		select {
		case <-p.events: // the oldest gives way
		default:
		}
	}
}

// Next returns the next event of the given name, passing over others, decoded into out (if not nil).
func (p *Proc) Next(ctx context.Context, event string, out any) error {
	for {
		select {
		case line, ok := <-p.events:
			if !ok {
				return fmt.Errorf("%s ended before its event %q: %w\n%s", p, event, errors.Join(p.err, io.EOF), p.Stderr())
			}
			var head struct{ Event string }
			if json.Unmarshal(line, &head) != nil || head.Event != event {
				continue
			}
			if out == nil {
				return nil
			}
			return json.Unmarshal(line, out)
		case <-ctx.Done():
			return fmt.Errorf("%s: waiting for event %q: %w\n%s", p, event, context.Cause(ctx), p.Stderr())
		}
	}
}

// Interrupt sends Ctrl-C, once: a second would end a loveseat that is still finishing.
func (p *Proc) Interrupt() (err error) {
	p.intr.Do(func() { err = p.cmd.Process.Signal(os.Interrupt) })
	return err
}

// Kill ends the program without warning (SIGKILL) and waits for its end.
func (p *Proc) Kill() {
	p.killed.Store(true)
	_ = p.cmd.Process.Signal(syscall.SIGKILL)
	p.drain()
}

// Signal sends a signal, such as SIGSTOP.
func (p *Proc) Signal(s os.Signal) error { return p.cmd.Process.Signal(s) }

// Exited reports whether the program has ended.
func (p *Proc) Exited() bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}

// Killed reports whether Kill was called.
func (p *Proc) Killed() bool { return p.killed.Load() }

// Stop interrupts the program and waits for its end.
func (p *Proc) Stop() error {
	_ = p.Interrupt()
	return p.Wait()
}

// Wait waits for the program's end and returns an error with its words if it failed.
func (p *Proc) Wait() error {
	p.drain()
	if p.err != nil {
		return fmt.Errorf("%s: %w\n%s", p, p.err, p.Stderr())
	}
	return nil
}

func (p *Proc) drain() {
	for range p.events {
	}
	<-p.exited
}

// Pid is the process id.
func (p *Proc) Pid() int { return p.cmd.Process.Pid }

func (p *Proc) String() string { return strings.Join(p.cmd.Args, " ") }

// Run runs a program to its end and returns its standard output.
func Run(ctx context.Context, stdin io.Reader, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &out, &errs
	if err := cmd.Run(); err != nil {
		return out.Bytes(), fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, errs.String())
	}
	return out.Bytes(), nil
}
