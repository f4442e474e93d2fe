package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A conn is one keep-alive connection to a server. It costs next to nothing, so
// that what is measured is the server: requests are bytes made before, and
// of answers only the status and the length are looked at.
type conn struct {
	net.Conn
	r *bufio.Reader
}

func dial(addr, from string) (*conn, error) {
	d := net.Dialer{}
	if from != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	c, err := d.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	return &conn{c, bufio.NewReaderSize(c, 4<<10)}, nil
}

// do sends a request and passes over the answer's body.
func (c *conn) do(request []byte) (status int, err error) {
	if _, err = c.Write(request); err != nil {
		return 0, err
	}
	status, length, err := c.head()
	if err != nil {
		return status, err
	}
	if length >= 0 {
		_, err = c.r.Discard(length)
		return status, err
	}
	for {
		if length, err = c.chunk(); err != nil {
			return status, err
		}
		if _, err = c.r.Discard(length + 2); err != nil || length == 0 {
			return status, err
		}
	}
}

// chunk reads the head of a chunk of a body, and returns its length.
func (c *conn) chunk() (int, error) {
	line, err := c.r.ReadSlice('\n')
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(string(bytes.TrimSpace(line)), 16, 31)
	return int(n), err
}

// head reads the head of an answer; length is -1 for a chunked body.
func (c *conn) head() (status, length int, err error) {
	line, err := c.r.ReadSlice('\n')
	if err != nil {
		return 0, 0, err
	}
	if len(line) < 13 {
		return 0, 0, fmt.Errorf("the answer begins with %q", line)
	}
	if status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return 0, 0, err
	}
	for {
		if line, err = c.r.ReadSlice('\n'); err != nil {
			return 0, 0, err
		}
		if len(line) <= 2 {
			return status, length, nil
		}
		if v, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(v))); err != nil {
				return 0, 0, err
			}
		}
	}
}

// text reads the whole body of an answer that has a Content-Length.
func (c *conn) text(request []byte) (status int, body []byte, err error) {
	if _, err = c.Write(request); err != nil {
		return 0, nil, err
	}
	status, length, err := c.head()
	if err != nil {
		return 0, nil, err
	}
	if length < 0 {
		return status, nil, errors.New("a chunked answer")
	}
	body = make([]byte, length)
	_, err = io.ReadFull(c.r, body)
	return status, body, err
}

// request makes the bytes of one.
func request(method, path, body string, headers ...string) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: 127.0.0.1\r\n", method, path)
	if body != "" {
		fmt.Fprintf(&b, "Content-Type: application/json\r\nContent-Length: %d\r\n", len(body))
	}
	for _, h := range headers {
		b.WriteString(h + "\r\n")
	}
	b.WriteString("\r\n" + body)
	return []byte(b.String())
}

// A crew is connections that work at the same time.
type crew []*conn

func newCrew(addr string, n int) (crew, error) {
	c := make(crew, n)
	for i := range c {
		var err error
		if c[i], err = dial(addr, ""); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (c crew) close() {
	for _, one := range c {
		one.Close()
	}
}

// work has every connection send requests for a while; next makes the n-th request
// of a connection. It returns how many were answered as they should be.
func (c crew) work(length time.Duration, want int, next func(who, n int) []byte) (int, error) {
	return together(len(c), length, func(who, n int) error {
		status, err := c[who].do(next(who, n))
		if err == nil && status != want {
			err = fmt.Errorf("status %d, want %d", status, want)
		}
		return err
	})
}

// together has so many goroutines repeat something for a while, and counts.
func together(workers int, length time.Duration, do func(who, n int) error) (int, error) {
	var wg sync.WaitGroup
	counts, errs := make([]int, workers), make([]error, workers)
	end := time.Now().Add(length)
	for who := range workers {
		wg.Go(func() {
			for errs[who] == nil && time.Now().Before(end) {
				if errs[who] = do(who, counts[who]); errs[who] == nil {
					counts[who]++
				}
			}
		})
	}
	wg.Wait()
	all := 0
	for i, n := range counts {
		if errs[i] != nil {
			return 0, errs[i]
		}
		all += n
	}
	return all, nil
}
