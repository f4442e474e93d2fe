package localdb

import (
	"context"
	"errors"
	"sync"

	"github.com/loveseat-db/loveseat/localdb/internal/sqlite"
)

// maxReaders bounds the connections that read one database.
const maxReaders = 8

// A pool is the reading connections of a database, opened when needed.
type pool struct {
	open   func() (*sqlite.Conn, error)
	slots  chan struct{} // a token for each connection in use
	closed chan struct{}

	mu   sync.Mutex
	idle []*sqlite.Conn
}

func newPool(open func() (*sqlite.Conn, error)) *pool {
	return &pool{open: open, slots: make(chan struct{}, maxReaders), closed: make(chan struct{})}
}

func (p *pool) get(ctx context.Context) (*sqlite.Conn, error) {
	select {
	case <-p.closed:
		return nil, errClosed
	default:
	}
	select {
	case p.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-p.closed:
		return nil, errClosed
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
		<-p.slots
	}
	return c, err
}

func (p *pool) put(c *sqlite.Conn) {
	p.mu.Lock()
	p.idle = append(p.idle, c)
	p.mu.Unlock()
	<-p.slots
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
	close(p.closed)
	for range maxReaders {
		p.slots <- struct{}{}
	}
	p.mu.Lock() // the writer may be letting go of idle ones
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
	stop := c.Watch(ctx)
	defer stop()
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
