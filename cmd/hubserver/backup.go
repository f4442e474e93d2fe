package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/loveseat-db/loveseat/localdb"
)

// backupCommand copies the databases while they are used.
func (m *Main) backupCommand() *cobra.Command {
	return &cobra.Command{
		Use: "backup DIR", Short: "Copy all databases, while a hub serves them, into a new directory", Args: oneDirectory("backup"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := m.settleLocal(cmd); err != nil {
				return err
			}
			if _, err := os.Stat(m.f.data); err != nil { // opening would make it
				return fmt.Errorf("there are no databases: %w", err)
			}
			return m.copyStore(cmd, m.f.data, args[0], "The backup is in %s\n")
		},
	}
}

// restoreCommand makes a data directory from a backup, which stays as it is.
func (m *Main) restoreCommand() *cobra.Command {
	return &cobra.Command{
		Use: "restore DIR", Short: "Make the data directory, which must be empty or missing, from a backup", Args: oneDirectory("restore"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := m.settleLocal(cmd); err != nil {
				return err
			}
			if found, err := filepath.Glob(filepath.Join(args[0], "*.sqlite")); err != nil || len(found) == 0 {
				return errors.Join(fmt.Errorf("%s is no backup: there are no databases in it", args[0]), err)
			}
			if entries, err := os.ReadDir(m.f.data); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			} else if len(entries) > 0 {
				return fmt.Errorf("%s is not empty: stop the hub and move its data away first", m.f.data)
			}
			return m.copyStore(cmd, args[0], m.f.data, "The databases are restored in %s\n")
		},
	}
}

// settleLocal reads the settings, which must not say that the databases are elsewhere.
func (m *Main) settleLocal(cmd *cobra.Command) error {
	_, err := m.settle(cmd.Flags())
	if err == nil && m.f.service.couchdb != "" {
		err = usageError{errors.New("the databases are kept by the CouchDB server of --couchdb: back them up there")}
	}
	return err
}

// copyStore copies the databases of one directory into another, checking each.
func (m *Main) copyStore(cmd *cobra.Command, from, to, done string) (err error) {
	store, err := localdb.OpenStore(from, localdb.Options{})
	if err != nil {
		return fmt.Errorf("the databases in %s cannot be opened: %w", from, err)
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	if err := store.Backup(cmd.Context(), to); err != nil {
		return err
	}
	_, err = fmt.Fprintf(m.Stdout, done, to)
	return err
}

func oneDirectory(command string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) != 1 || args[0] == "" {
			return usageError{fmt.Errorf("want one directory: hubserver %s DIR", command)}
		}
		return nil
	}
}
