package main

import (
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// A hangup catches SIGHUP, which would end the program: by convention it tells a
// server to read again what it can.
type hangup struct {
	signals chan os.Signal
	wg      sync.WaitGroup
}

func newHangup() *hangup {
	h := &hangup{signals: make(chan os.Signal, 1)}
	signal.Notify(h.signals, syscall.SIGHUP)
	return h
}

// handle reads the certificate again at each signal, if there is one.
func (h *hangup) handle(c *certificate, log *slog.Logger) {
	h.wg.Go(func() {
		for range h.signals {
			if c == nil {
				log.Info("SIGHUP: there is no certificate to read again; settings are read at the start only")
				continue
			}
			c.mu.Lock()
			c.reload()
			c.mu.Unlock()
		}
	})
}

func (h *hangup) stop() {
	signal.Stop(h.signals) // when it returns nothing is sent any more
	close(h.signals)
	h.wg.Wait()
}
