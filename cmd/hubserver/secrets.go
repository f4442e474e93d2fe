package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/loveseat-db/loveseat/hub"
)

// keptSecret returns the secret of cookie sessions that is kept in the data
// directory, made when it is first needed, so that sessions outlast a restart.
func keptSecret(data string) ([]byte, error) {
	path := filepath.Join(data, "session.secret")
	for range 2 {
		text, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			err = makeSecret(path)
			if err == nil || errors.Is(err, fs.ErrExist) {
				continue // another process may have been quicker
			}
		}
		if err != nil {
			return nil, fmt.Errorf("the secret of sessions: %w", err)
		}
		secret, err := hex.DecodeString(strings.TrimSpace(string(text)))
		if err != nil || len(secret) < 16 {
			return nil, fmt.Errorf("%s is damaged: remove it, and everybody has to log in again", path)
		}
		return secret, nil
	}
	return nil, fmt.Errorf("%s cannot be made", path)
}

// makeSecret writes a new secret whole or not at all. Errors: fs.ErrExist if there is one.
func makeSecret(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	var b [32]byte
	_, _ = rand.Read(b[:]) // cannot fail
	tmp, err := writeTemp(path, []byte(hex.EncodeToString(b[:])+"\n"), fileMode)
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(tmp) }()
	return os.Link(tmp, path)
}

// writeTemp writes a file beside path and returns its name.
func writeTemp(path string, text []byte, mode os.FileMode) (name string, err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-")
	if err != nil {
		return "", err
	}
	_, err = f.Write(text)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err != nil {
		return "", errors.Join(err, os.Remove(f.Name()))
	}
	return f.Name(), nil
}

var tomlStrings = regexp.MustCompile(`"(?:[^"\\\n]|\\.)*"|'[^'\n]*'`)

// hashAdmins replaces the administrators' passwords in the configuration file by
// their hashes, wherever they are written there, as CouchDB does at its start. It
// returns what is to be used.
func hashAdmins(path string, admins []string) ([]string, error) {
	hashed := map[string]string{}
	out := make([]string, len(admins))
	for i, a := range admins {
		name, password, _ := strings.Cut(a, ":")
		hash, err := hub.HashPassword(password)
		if err != nil {
			return nil, err
		}
		if out[i] = name + ":" + hash; out[i] != a {
			hashed[a] = out[i]
		}
	}
	if len(hashed) == 0 {
		return out, nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return out, err
	}
	done := map[string]bool{}
	text = tomlStrings.ReplaceAllFunc(text, func(token []byte) []byte {
		s, ok := tomlString(string(token))
		if h := hashed[s]; ok && h != "" {
			done[s] = true
			return []byte(quoted(h))
		}
		return token
	})
	if len(done) < len(hashed) {
		return out, errors.New("a password is not written as one plain string")
	}
	return out, replaceFile(path, text)
}

// replaceFile writes a file anew, with the mode it has.
func replaceFile(path string, text []byte) error {
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	tmp, err := writeTemp(path, text, info.Mode().Perm())
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(tmp) }() // if it has not become the file
	return os.Rename(tmp, path)
}
