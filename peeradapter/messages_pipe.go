package peeradapter

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
)

// MessagePipe connects two message channels in memory. Send waits until the
// message is taken.
func MessagePipe() (MessageChannel, MessageChannel) {
	ab, ba := make(chan []byte), make(chan []byte)
	a := &pipeEnd{in: make(chan []byte), from: ba, to: ab, closed: make(chan struct{})}
	b := &pipeEnd{in: make(chan []byte), from: ab, to: ba, closed: make(chan struct{})}
	a.other, b.other = b, a
	go a.run()
	go b.run()
	return a, b
}

// A pipeEnd is one end of a MessagePipe.
type pipeEnd struct {
	in       chan []byte // what Messages gives
	from, to chan []byte
	other    *pipeEnd
	once     sync.Once
	closed   chan struct{}
}

// run hands messages on until one of the ends is closed.
func (p *pipeEnd) run() {
	defer close(p.in)
	for {
		select {
		case msg := <-p.from:
			select {
			case p.in <- msg:
			case <-p.closed:
				return
			}
		case <-p.closed:
			return
		case <-p.other.closed:
			return
		}
	}
}

func (p *pipeEnd) Send(msg []byte) error {
	select {
	case p.to <- msg:
		return nil
	case <-p.closed:
	case <-p.other.closed:
	}
	return net.ErrClosed
}

func (p *pipeEnd) Messages() <-chan []byte { return p.in }

func (p *pipeEnd) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

// A framed is a message channel over a byte stream: each message after its
// length, four bytes, most significant first.
type framed struct {
	r      io.Reader
	w      io.Writer
	closer func() error
	in     chan []byte
	closed chan struct{}
	once   sync.Once
	sendMu sync.Mutex
}

// MessageStream makes a message channel of a byte stream, such as a program's
// standard input and output: each message after its length, four bytes, most
// significant first. Closing it calls closer, which must end a Read that waits.
func MessageStream(r io.Reader, w io.Writer, closer func() error) MessageChannel {
	f := &framed{r: r, w: w, closer: closer, in: make(chan []byte), closed: make(chan struct{})}
	go f.run()
	return f
}

func (f *framed) run() {
	defer close(f.in)
	for {
		msg, err := readFramed(f.r)
		if err != nil {
			return
		}
		select {
		case f.in <- msg:
		case <-f.closed:
			return
		}
	}
}

var errFrameTooLong = errors.New("peeradapter: a message of more than 64 KiB")

func readFramed(r io.Reader) ([]byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(size[:])
	if n > maxMessage {
		return nil, errFrameTooLong
	}
	msg := make([]byte, n)
	_, err := io.ReadFull(r, msg)
	return msg, err
}

func (f *framed) Send(msg []byte) error {
	f.sendMu.Lock()
	defer f.sendMu.Unlock()
	_, err := f.w.Write(append(binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(msg)), uint32(len(msg))), msg...))
	return err
}

func (f *framed) Messages() <-chan []byte { return f.in }

func (f *framed) Close() error {
	var err error
	f.once.Do(func() {
		close(f.closed)
		err = f.closer()
	})
	return err
}
