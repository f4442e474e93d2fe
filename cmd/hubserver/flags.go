package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/loveseat-db/loveseat/hub"
	"github.com/loveseat-db/loveseat/internal/couch"
)

// flags is everything that can be configured. The environment (LOVESEAT_NAME)
// and the configuration file have the same names; see settings.go.
type flags struct {
	config  string
	addr    string
	data    string
	admin   []string
	origins []string
	hosts   []string
	log     string
	logJSON bool
	json    bool

	tlsCert string
	tlsKey  string
	proxies []string

	signUp         bool
	userDatabases  bool
	requireUser    bool
	openMetrics    bool
	sessionTimeout time.Duration
	secret         string
	jwtKeys        []string
	jwtRequire     []string
	jwtRoles       string

	service serviceFlags
}

func (f *flags) register(fl *pflag.FlagSet) {
	fl.SortFlags = false
	fl.StringVar(&f.config, "config", "", "TOML `file` with these settings under the same names")
	fl.StringVar(&f.addr, "addr", "127.0.0.1:5984", "`address` to listen on; port 0 is any free one")
	fl.StringVar(&f.data, "data", "./data/hub", "`directory` of the databases, made if it is missing")
	fl.StringArrayVar(&f.admin, "admin", nil, "an administrator's `NAME:PASSWORD` (repeatable); better in LOVESEAT_ADMIN or in the file, where it is replaced by its hash")
	fl.StringSliceVar(&f.origins, "origin", nil, "web `origin` whose pages may use the hub (repeatable); without administrators those on loopback may too")
	fl.StringSliceVar(&f.hosts, "host", nil, "`name` under which the hub is reached, like hub.example.org, with its port if that is neither 80, 443 nor the one in --addr; others are refused, besides addresses, this machine's name and the certificate's (repeatable)")
	fl.StringVar(&f.log, "log", "info", "least `level` to log: debug (each request), info, warn, error")
	fl.BoolVar(&f.logJSON, "log-json", false, "log as JSON")
	fl.BoolVar(&f.json, "json", false, "print events as JSON, one a line, first {\"event\":\"listening\",\"url\":…}")

	fl.StringVar(&f.tlsCert, "tls-cert", "", "PEM `file` of the certificate chain, to serve HTTPS; read again when it changes")
	fl.StringVar(&f.tlsKey, "tls-key", "", "PEM `file` of its key")
	fl.StringSliceVar(&f.proxies, "trusted-proxy", nil, "`address` or network of a reverse proxy whose X-Forwarded-For and X-Forwarded-Proto are believed (repeatable)")

	fl.BoolVar(&f.signUp, "sign-up", false, "let everybody make an account")
	fl.BoolVar(&f.userDatabases, "user-databases", false, "give each account a database of its own, userdb-HEX")
	fl.BoolVar(&f.requireUser, "require-user", false, "answer nobody who has not logged in")
	fl.BoolVar(&f.openMetrics, "open-metrics", false, "let everybody read /_metrics, not administrators only")
	fl.DurationVar(&f.sessionTimeout, "session-timeout", 10*time.Minute, "how long a cookie session lasts without use")
	fl.StringVar(&f.secret, "secret", "", "`hex` secret of cookie sessions, 16 bytes or more; by default made and kept in the data directory")
	fl.StringArrayVar(&f.jwtKeys, "jwt-key", nil, "`TYPE:KID=KEY` that verifies JSON Web Tokens: hmac with base64, rsa, ec or eddsa with PEM (repeatable)")
	fl.StringSliceVar(&f.jwtRequire, "jwt-require", []string{"exp"}, "`claim` that a token must have, or CLAIM=VALUE (repeatable)")
	fl.StringVar(&f.jwtRoles, "jwt-roles", "_couchdb.roles", "`claim` with the roles of a token's user, a name or a path with dots")

	f.service.register(fl)

	markSecret(fl, "admin", ":")
	markSecret(fl, "secret", "")
	markSecret(fl, "jwt-key", "=")
}

// admins reads --admin. The error does not repeat it.
func (f *flags) admins() ([]hub.Admin, error) {
	var out []hub.Admin
	for _, a := range f.admin {
		name, password, ok := strings.Cut(a, ":")
		if !ok || name == "" || password == "" {
			return nil, usageError{fmt.Errorf("--admin (or LOVESEAT_ADMIN) must be NAME:PASSWORD")}
		}
		out = append(out, hub.Admin{Name: name, Password: password})
	}
	return out, nil
}

// checkOpen refuses to let strangers do everything.
func (f *flags) checkOpen(admins []hub.Admin) error {
	host, _, err := net.SplitHostPort(f.addr)
	if err != nil {
		return usageError{fmt.Errorf("--addr %s: want HOST:PORT, like 127.0.0.1:5984", f.addr)}
	}
	if len(admins) == 0 && !hub.LoopbackHost(host) {
		return usageError{fmt.Errorf("%s can be reached by others, and without an administrator they could do everything: "+
			"set LOVESEAT_ADMIN=NAME:PASSWORD (or --admin), or listen on 127.0.0.1", f.addr)}
	}
	return nil
}

// accounts fills in what the flags say of accounts and log-ins. c.Store is set.
func (f *flags) accounts(ctx context.Context, c *hub.Config) (err error) {
	if c.Admins, err = f.admins(); err != nil {
		return err
	}
	if c.JWT.Keys, err = f.keys(); err != nil {
		return err
	}
	if c.TrustedProxies, err = f.prefixes(); err != nil {
		return err
	}
	c.JWT.Require, c.JWT.RolesClaim = f.jwtRequire, f.jwtRoles
	c.SignUp, c.UserDatabases, c.RequireUser, c.OpenMetrics = f.signUp, f.userDatabases, f.requireUser, f.openMetrics
	c.SessionTimeout = f.sessionTimeout
	c.Secret, err = f.sessionSecret(ctx, c.Store)
	return err
}

func (f *flags) keys() (map[string]string, error) {
	keys := map[string]string{}
	for _, k := range f.jwtKeys {
		name, key, ok := strings.Cut(k, "=")
		if !ok {
			return nil, usageError{fmt.Errorf("--jwt-key must be TYPE:KID=KEY")}
		}
		keys[name] = key
	}
	return keys, nil
}

func (f *flags) prefixes() ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, s := range f.proxies {
		p, err := netip.ParsePrefix(s)
		if a, e := netip.ParseAddr(s); e == nil {
			p, err = netip.PrefixFrom(a, a.BitLen()), nil
		}
		if err != nil {
			return nil, usageError{fmt.Errorf("--trusted-proxy %s: want an address or a network, like 127.0.0.1 or 10.0.0.0/8", s)}
		}
		out = append(out, p.Masked())
	}
	return out, nil
}

// sessionSecret is --secret, or that of the data directory or of the CouchDB server.
func (f *flags) sessionSecret(ctx context.Context, store couch.Store) ([]byte, error) {
	switch {
	case f.secret == "" && f.service.couchdb != "":
		return hub.SharedSecret(ctx, store)
	case f.secret == "":
		return keptSecret(f.data)
	}
	b, err := hex.DecodeString(f.secret)
	if err != nil || len(b) < 16 {
		return nil, usageError{fmt.Errorf("--secret must be 32 hexadecimal digits or more, like openssl rand -hex 32 makes them")}
	}
	return b, nil
}

func (m *Main) logger() (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(m.f.log)); err != nil {
		return nil, usageError{fmt.Errorf("--log %s: want debug, info, warn or error", m.f.log)}
	}
	o := &slog.HandlerOptions{Level: level}
	if m.f.logJSON {
		return slog.New(slog.NewJSONHandler(m.Stderr, o)), nil
	}
	return slog.New(slog.NewTextHandler(m.Stderr, o)), nil
}
