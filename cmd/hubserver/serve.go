package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/loveseat-db/loveseat/hub"
	"github.com/loveseat-db/loveseat/localdb"
)

func (m *Main) serve(cmd *cobra.Command) (err error) {
	ctx := cmd.Context()
	from, err := m.settle(cmd.Flags())
	if err != nil {
		return err
	}
	logger, err := m.logger()
	if err != nil {
		return err
	}
	admins, err := m.f.admins()
	if err != nil {
		return err
	}
	if err := m.f.checkOpen(admins); err != nil {
		return err
	}
	if from["admin"] == fromFile {
		if m.f.admin, err = hashAdmins(m.f.config, m.f.admin); err != nil {
			logger.Warn("a password in the configuration file cannot be replaced by its hash", "file", m.f.config, "err", err)
		}
	}
	hangup := newHangup()
	defer hangup.stop()
	// The address first: a second hub must not touch the databases of the one that runs.
	ln, err := listen(ctx, m.f.addr)
	if err != nil {
		return err
	}
	defer ln.Close()
	ln, cert, err := m.listenTLS(ln, logger)
	if err != nil {
		return err
	}
	hangup.handle(cert, logger)
	store, err := m.openServed(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.close()) }()
	config := hub.Config{Store: store.Store, UUID: store.uuid, Release: version, Origins: m.f.origins, Hosts: m.f.hosts, Logger: logger}
	if cert != nil {
		config.CertificateHosts = cert.names
	}
	if err := m.f.accounts(ctx, &config); err != nil {
		return err
	}
	turn, err := m.f.service.configure(&config)
	if err != nil {
		return err
	}
	if turn != nil {
		defer func() { err = errors.Join(err, turn.Close()) }()
	}
	h, err := hub.New(ctx, config)
	if err != nil {
		return err
	}
	limitMemory(m.Getenv, config.Service.Quotas.Memory)
	m.announce(ln.Addr(), h.Hosts())
	defer runtime.KeepAlive(ballast())
	return h.Serve(ctx, ln)
}

// ballast is memory that is never touched, so that it costs none. The collector
// runs when the heap has doubled; a hub that has little alive would spend a quarter of its time on it.
func ballast() []byte { return make([]byte, 32<<20) }

// atRest is the memory that a hub takes for nobody in particular: the ballast, the databases' caches.
const atRest = 64 << 20

// limitMemory makes the collector run more often before garbage adds much to what
// requests may hold, unless the environment says how.
func limitMemory(getenv func(string) string, requests int64) {
	if requests > 0 && getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(requests + atRest)
	}
}

// spareThreads lets two more threads run Go than there are processors, unless the
// environment says how many: a database's writer and its checkpointer are mostly in
// system calls, and when one returns, the writer should not wait until a
// request lets go. With 2 processors, 32 clients then write a tenth more; reading is as fast.
func spareThreads(getenv func(string) string) {
	if getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + 2)
	}
}

// openStore opens the databases.
func (m *Main) openStore() (*localdb.Store, error) {
	store, err := localdb.OpenStore(m.f.data, localdb.Options{RevsLimits: m.f.service.revsLimits()})
	if err != nil {
		return nil, fmt.Errorf("the databases in %s cannot be opened: %w", m.f.data, err)
	}
	return store, nil
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

// announce says where the hub is, by which names, and what to try next.
func (m *Main) announce(a net.Addr, hosts []string) {
	scheme, host := "http://", a.String()
	if m.f.tlsCert != "" {
		scheme = "https://"
	}
	if tcp, ok := a.(*net.TCPAddr); ok && tcp.IP.IsUnspecified() {
		host = fmt.Sprintf("127.0.0.1:%d", tcp.Port)
	}
	url := scheme + host
	data := m.f.service.place(m.f.data)
	if m.f.json {
		line, _ := json.Marshal(map[string]any{"event": "listening", "url": url, "data": data, "hosts": append([]string{}, hosts...)}) // strings only: cannot fail
		_, _ = fmt.Fprintf(m.Stdout, "%s\n", line)
	} else {
		_, _ = fmt.Fprintf(m.Stdout, `The hub is at %s, its databases in %s
It answers to %s; --host adds a name.

  loveseat share %s/hub ./data/notes
  loveseat ls %s/hub

Ctrl-C stops it.
`, url, data, strings.Join(append([]string{"localhost"}, hosts...), ", "), url, url)
	}
	if m.Ready != nil {
		m.Ready(url)
	}
}
