package localdb

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/localdb/internal/sqlite"
)

// maxReaders bounds the connections that read one database.
const maxReaders = 8

// A pool is the reading connections of a database, opened when needed. When all
// are in use they are given to the clients in turn (see [couch.WithClient]), so
// that one that reads much with many calls does not keep the others waiting.
type pool struct {
	open   func() (*sqlite.Conn, error)
	closed chan struct{}

	mu    sync.Mutex
	used  int // connections, or the right to open one
	idle  []*sqlite.Conn
	lines []*line       // of clients who wait, the next one first
	empty chan struct{} // not nil: closed when none is used

	waiting map[string]*line // the same by client
}

// A line is the calls of one client that wait for a connection, in their order.
type line struct {
	client string
	calls  []chan struct{} // closed when it is a call's turn
}

func newPool(open func() (*sqlite.Conn, error)) *pool {
	return &pool{open: open, closed: make(chan struct{}), waiting: map[string]*line{}}
}

func (p *pool) get(ctx context.Context) (*sqlite.Conn, error) {
	if err := p.enter(ctx); err != nil {
		return nil, err
	}
	p.mu.Lock()
	if n := len(p.idle); n > 0 {
		c := p.idle[n-1]
		p.idle = p.idle[:n-1]
		p.mu.Unlock()
		return c, nil
	}
	p.mu.Unlock()
	c, err := p.open()
	if err != nil {
		p.leave()
	}
	return c, err
}

func (p *pool) put(c *sqlite.Conn) {
	p.mu.Lock()
	p.idle = append(p.idle, c)
	p.mu.Unlock()
	p.leave()
}

// enter waits until the caller may use a connection.
func (p *pool) enter(ctx context.Context) error {
	p.mu.Lock()
	select {
	case <-p.closed:
		p.mu.Unlock()
		return errClosed
	default:
	}
	if p.used < maxReaders {
		p.used++
		p.mu.Unlock()
		return nil
	}
	turn := make(chan struct{})
	p.queue(couch.ClientOf(ctx), turn)
	p.mu.Unlock()
	var err error
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
		err = ctx.Err()
	case <-p.closed:
		err = errClosed
	}
	if !p.unqueue(turn) { // its turn has come all the same
		p.leave()
	}
	return err
}

// queue puts a call into its client's line. p.mu is held.
func (p *pool) queue(client string, turn chan struct{}) {
	l := p.waiting[client]
	if l == nil {
		l = &line{client: client}
		p.waiting[client], p.lines = l, append(p.lines, l)
	}
	l.calls = append(l.calls, turn)
}

// unqueue takes a call back; it reports false if its turn has come.
func (p *pool) unqueue(turn chan struct{}) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, l := range p.lines {
		if at := slices.Index(l.calls, turn); at >= 0 {
			if l.calls = slices.Delete(l.calls, at, at+1); len(l.calls) == 0 {
				p.lines = slices.Delete(p.lines, i, i+1)
				delete(p.waiting, l.client)
			}
			return true
		}
	}
	return false
}

// leave lets the next one in.
func (p *pool) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.lines) == 0 {
		if p.used--; p.used == 0 && p.empty != nil {
			close(p.empty)
		}
		return
	}
	l := p.lines[0]
	p.lines = p.lines[1:]
	close(l.calls[0])
	if l.calls = l.calls[1:]; len(l.calls) > 0 {
		p.lines = append(p.lines, l)
	} else {
		delete(p.waiting, l.client)
	}
}

// trim closes the connections that nobody uses.
func (p *pool) trim() {
	p.mu.Lock()
	idle := p.idle
	p.idle = nil
	p.mu.Unlock()
	for _, c := range idle {
		_ = c.Close() // it only read
	}
}

// close waits for connections in use and closes them all.
func (p *pool) close() error {
	p.mu.Lock()
	close(p.closed)
	if p.used > 0 {
		empty := make(chan struct{})
		p.empty = empty
		p.mu.Unlock()
		<-empty
		p.mu.Lock()
	}
	defer p.mu.Unlock()
	var err error
	for _, c := range p.idle {
		err = errors.Join(err, c.Close())
	}
	p.idle = nil
	return err
}

// view runs fn in a read transaction: one consistent state of the database. It
// must be short, and must not call the caller's functions.
func (d *database) view(ctx context.Context, fn func(*sqlite.Conn) error) error {
	return d.peek(ctx, func(c *sqlite.Conn) error {
		stop := c.Watch(ctx)
		defer stop()
		return fn(c)
	})
}

// peek is view for reading a row or two, which ends sooner than it could be interrupted.
func (d *database) peek(ctx context.Context, fn func(*sqlite.Conn) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s, err := d.use()
	if err != nil {
		return d.translate(err)
	}
	defer d.release()
	c, err := s.readers.get(ctx)
	if err != nil {
		return d.translate(err)
	}
	defer s.readers.put(c)
	if err := c.Prepare("BEGIN").Exec(); err != nil {
		return d.translate(err)
	}
	err = fn(c)
	if err == nil {
		err = c.Prepare("COMMIT").Exec()
	}
	if err != nil && !c.Autocommit() {
		_ = c.Exec("ROLLBACK") // an interrupt may have come first
	}
	if sqlite.IsInterrupt(err) && ctx.Err() != nil {
		return ctx.Err()
	}
	return d.translate(err)
}
