package main

import (
	"fmt"
	"log/slog"
	"net"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/loveseat-db/loveseat/hub"
)

type flags struct {
	addr    string
	data    string
	admin   string
	origins []string
	log     string
	logJSON bool
	json    bool
}

func (f *flags) register(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.SortFlags = false
	fl.StringVar(&f.addr, "addr", "127.0.0.1:5984", "`address` to listen on; port 0 is any free one")
	fl.StringVar(&f.data, "data", "./data/hub", "`directory` of the databases, made if it is missing")
	fl.StringVar(&f.admin, "admin", "", "the administrator's `NAME:PASSWORD`; better in LOVESEAT_ADMIN")
	fl.StringSliceVar(&f.origins, "origin", nil, "web `origin` whose pages may use the hub, besides those on loopback (repeatable)")
	fl.StringVar(&f.log, "log", "info", "least `level` to log: debug (each request), info, warn, error")
	fl.BoolVar(&f.logJSON, "log-json", false, "log as JSON")
	fl.BoolVar(&f.json, "json", false, "print events as JSON, one a line, first {\"event\":\"listening\",\"url\":…}")
}

// fromEnv sets the flags that the command line does not from LOVESEAT_NAME.
func fromEnv(fl *pflag.FlagSet, getenv func(string) string) error {
	var bad error
	fl.VisitAll(func(f *pflag.Flag) {
		name := "LOVESEAT_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		v := getenv(name)
		if v == "" || f.Changed || f.Name == "help" || f.Name == "version" {
			return
		}
		if err := fl.Set(f.Name, v); err != nil {
			bad = usageError{fmt.Errorf("%s: invalid value for --%s", name, f.Name)} // not the value: it may be a secret
		}
	})
	return bad
}

// account reads --admin. The error does not repeat it.
func (f *flags) account() (*hub.Admin, error) {
	if f.admin == "" {
		return nil, nil
	}
	name, password, ok := strings.Cut(f.admin, ":")
	if !ok || name == "" || password == "" {
		return nil, usageError{fmt.Errorf("--admin (or LOVESEAT_ADMIN) must be NAME:PASSWORD")}
	}
	return &hub.Admin{Name: name, Password: password}, nil
}

// checkOpen refuses to let strangers do everything.
func (f *flags) checkOpen(admin *hub.Admin) error {
	host, _, err := net.SplitHostPort(f.addr)
	if err != nil {
		return usageError{fmt.Errorf("--addr %s: want HOST:PORT, like 127.0.0.1:5984", f.addr)}
	}
	if admin == nil && !hub.LoopbackHost(host) {
		return usageError{fmt.Errorf("%s can be reached by others, and without an administrator they could do everything: "+
			"set LOVESEAT_ADMIN=NAME:PASSWORD (or --admin), or listen on 127.0.0.1", f.addr)}
	}
	return nil
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
