package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"sync"
	"time"
)

// certificate is a certificate in files, which is read again when they change.
type certificate struct {
	cert, key string
	log       *slog.Logger

	mu      sync.Mutex
	loaded  *tls.Certificate
	stamp   [2]time.Time // of the files when it was loaded
	checked time.Time
}

// recheck is how often, at most, the files are looked at.
const recheck = time.Second

// listenTLS wraps a listener if the flags name a certificate, which is nil if they do not.
func (m *Main) listenTLS(ln net.Listener, log *slog.Logger) (net.Listener, *certificate, error) {
	if m.f.tlsCert == "" && m.f.tlsKey == "" {
		return ln, nil, nil
	}
	if m.f.tlsCert == "" || m.f.tlsKey == "" {
		return nil, nil, usageError{errors.New("--tls-cert and --tls-key are needed both")}
	}
	c := &certificate{cert: m.f.tlsCert, key: m.f.tlsKey, log: log}
	if err := c.load(); err != nil {
		return nil, nil, fmt.Errorf("the certificate: %w", err)
	}
	return tls.NewListener(ln, &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}, GetCertificate: c.get}), c, nil
}

// get is called for each connection. A certificate that cannot be read again stays as it was.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); now.Sub(c.checked) >= recheck {
		c.checked = now
		if stamp, err := c.stamps(); err != nil || stamp != c.stamp {
			c.reload()
		}
	}
	return c.loaded, nil
}

// reload reads the certificate again, changed or not. The caller holds c.mu.
func (c *certificate) reload() {
	if err := c.load(); err != nil {
		c.log.Error("the certificate cannot be read again; the old one stays", "err", err)
		return
	}
	c.log.Info("the certificate was read again", "file", c.cert)
}

// names returns the names and addresses that the certificate is for.
func (c *certificate) names() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.loaded == nil || c.loaded.Leaf == nil {
		return nil
	}
	names := slices.Clone(c.loaded.Leaf.DNSNames)
	for _, ip := range c.loaded.Leaf.IPAddresses {
		names = append(names, ip.String())
	}
	return names
}

func (c *certificate) stamps() (s [2]time.Time, err error) {
	for i, name := range []string{c.cert, c.key} {
		info, err := os.Stat(name)
		if err != nil {
			return s, err
		}
		s[i] = info.ModTime()
	}
	return s, nil
}

func (c *certificate) load() error {
	stamp, err := c.stamps()
	if err != nil {
		return err
	}
	loaded, err := tls.LoadX509KeyPair(c.cert, c.key)
	if err != nil {
		return err
	}
	c.loaded, c.stamp = &loaded, stamp
	return nil
}
