package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/loveseat-db/loveseat/hub"
	"github.com/loveseat-db/loveseat/localdb"
)

func (m *Main) serve(cmd *cobra.Command) (err error) {
	ctx := cmd.Context()
	if err := fromEnv(cmd.Flags(), m.Getenv); err != nil {
		return err
	}
	logger, err := m.logger()
	if err != nil {
		return err
	}
	admin, err := m.f.account()
	if err != nil {
		return err
	}
	if err := m.f.checkOpen(admin); err != nil {
		return err
	}
	// The address first: a second hub must not touch the databases of the one that runs.
	ln, err := listen(ctx, m.f.addr)
	if err != nil {
		return err
	}
	defer ln.Close()
	store, err := localdb.OpenStore(m.f.data, localdb.Options{})
	if err != nil {
		return fmt.Errorf("the databases in %s cannot be opened: %w", m.f.data, err)
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	h, err := hub.New(ctx, hub.Config{Store: store, UUID: store.UUID(), Release: version, Admin: admin, Origins: m.f.origins, Logger: logger})
	if err != nil {
		return err
	}
	m.announce(ln.Addr())
	return h.Serve(ctx, ln)
}

func listen(ctx context.Context, addr string) (net.Listener, error) {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("%s is in use: is a hub, or CouchDB, running already? Choose another port with --addr", addr)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %s: %w", addr, err)
	}
	return ln, nil
}

// announce says where the hub is and what to try next.
func (m *Main) announce(a net.Addr) {
	url := "http://" + a.String()
	if tcp, ok := a.(*net.TCPAddr); ok && tcp.IP.IsUnspecified() {
		url = fmt.Sprintf("http://127.0.0.1:%d", tcp.Port)
	}
	data, err := filepath.Abs(m.f.data)
	if err != nil {
		data = m.f.data
	}
	if m.f.json {
		line, _ := json.Marshal(map[string]string{"event": "listening", "url": url, "data": data}) // strings only: cannot fail
		_, _ = fmt.Fprintf(m.Stdout, "%s\n", line)
	} else {
		_, _ = fmt.Fprintf(m.Stdout, `The hub is at %s, its databases in %s

  loveseat share %s/hub ./data/notes
  loveseat ls %s/hub

Ctrl-C stops it.
`, url, data, url, url)
	}
	if m.Ready != nil {
		m.Ready(url)
	}
}
