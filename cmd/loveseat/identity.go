package main

import (
	"cmp"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/loveseat-db/loveseat/internal/cli"
)

// identityDir is where the device key of a command is kept: as --identity or
// LOVESEAT_IDENTITY says, else in the store of the local database that the
// command works on, else in the user's configuration directory.
func (m *Main) identityDir(paths ...string) (string, error) {
	if dir := cmp.Or(m.identity, m.Getenv("LOVESEAT_IDENTITY")); dir != "" {
		return dir, nil
	}
	for _, path := range paths {
		if !isURL(path) {
			dir, _, err := splitPath(path)
			return dir, err
		}
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("no place for the device key: %w; name one with --identity DIR", err)
	}
	return filepath.Join(dir, "loveseat"), nil
}

// withCredentials adds user name and password to a hub's URL that has none, if
// LOVESEAT_HUB has them for the same server: links never carry credentials, and
// a stranger's link must not be given those of another hub.
func (m *Main) withCredentials(hub string) string {
	u, err := cli.ParseURL(hub)
	known, knownErr := cli.ParseURL(m.Getenv("LOVESEAT_HUB"))
	if err != nil || knownErr != nil || u.User != nil || u.Scheme != known.Scheme || u.Host != known.Host {
		return hub
	}
	u.User = known.User
	return u.String()
}

// logger writes warnings, with --verbose everything, to standard error.
func (m *Main) logger() *slog.Logger {
	level := slog.LevelWarn
	if m.verbose {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(m.Stderr, &slog.HandlerOptions{Level: level}))
}
