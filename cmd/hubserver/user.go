package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/loveseat-db/loveseat/hub"
	"github.com/loveseat-db/loveseat/internal/cli"
)

// userCommand is 'hubserver user …', which works on the databases themselves,
// whether a hub serves them at the time or not.
func (m *Main) userCommand() *cobra.Command {
	user := &cobra.Command{
		Use: "user", Short: "Make, change, list and remove accounts", Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			return usageError{errors.New("say what: user add, passwd, list or remove")}
		},
	}
	var roles []string
	add := m.userAction("add NAME", "Make an account; the password is asked for, or read from the standard input", func(ctx context.Context, u hub.Users, name string) error {
		password, err := m.readPassword(name)
		if err != nil {
			return err
		}
		return u.Add(ctx, name, password, roles)
	})
	add.Flags().StringSliceVar(&roles, "role", nil, "`role` of the user (repeatable)")
	passwd := m.userAction("passwd NAME", "Change a password; it is asked for, or read from the standard input", func(ctx context.Context, u hub.Users, name string) error {
		password, err := m.readPassword(name)
		if err != nil {
			return err
		}
		return u.SetPassword(ctx, name, password)
	})
	remove := m.userAction("remove NAME", "Remove an account; a database of its own stays", func(ctx context.Context, u hub.Users, name string) error {
		return u.Remove(ctx, name)
	})
	list := &cobra.Command{Use: "list", Short: "List the accounts and their roles", Args: noArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		return m.withUsers(cmd, func(ctx context.Context, u hub.Users) error { return m.listUsers(ctx, u) })
	}}
	user.AddCommand(add, passwd, list, remove)
	return user
}

func (m *Main) userAction(use, short string, do func(ctx context.Context, u hub.Users, name string) error) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 || args[0] == "" {
				return usageError{errors.New("want one user name: hubserver user " + use)}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return m.withUsers(cmd, func(ctx context.Context, u hub.Users) error { return do(ctx, u, args[0]) })
		},
	}
}

func (m *Main) withUsers(cmd *cobra.Command, do func(context.Context, hub.Users) error) (err error) {
	if _, err := m.settle(cmd.Flags()); err != nil {
		return err
	}
	store, err := m.openServed(cmd.Context())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.close()) }()
	return do(cmd.Context(), hub.Users{Store: hub.LimitDatabases(store.Store, m.f.service.quotas.Databases), Databases: m.f.userDatabases})
}

// listUsers prints a line for each user, with --json as JSON.
func (m *Main) listUsers(ctx context.Context, u hub.Users) error {
	users, err := u.List(ctx)
	if err != nil {
		return err
	}
	for _, one := range users {
		line := cli.Text(one.Name)
		for _, role := range one.Roles {
			line += "\t" + cli.Text(role)
		}
		if m.f.json {
			b, err := json.Marshal(one)
			if err != nil {
				return err
			}
			line = string(b)
		}
		if _, err := fmt.Fprintln(m.Stdout, line); err != nil {
			return err
		}
	}
	return nil
}

// readPassword asks twice on a terminal, and otherwise reads one line.
func (m *Main) readPassword(name string) (string, error) {
	if f, ok := m.Stdin.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		first, err := m.ask(f, "Password of "+name+": ")
		if err != nil {
			return "", err
		}
		second, err := m.ask(f, "Again: ")
		if err != nil {
			return "", err
		}
		if first != second {
			return "", usageError{errors.New("the two passwords differ")}
		}
		return first, nil
	}
	if m.Stdin == nil {
		return "", usageError{errors.New("the password is read from the standard input, and there is none")}
	}
	line, err := bufio.NewReader(io.LimitReader(m.Stdin, 4<<10)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	return strings.TrimRight(line, "\r\n"), nil
}

func (m *Main) ask(f *os.File, prompt string) (string, error) {
	_, _ = fmt.Fprint(m.Stderr, prompt)
	b, err := term.ReadPassword(int(f.Fd()))
	_, _ = fmt.Fprintln(m.Stderr)
	return string(b), err
}
