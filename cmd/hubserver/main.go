// Command hubserver is the hub: CouchDB's HTTP API over local databases, among
// them the hub database in which peers publish what they share.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/loveseat-db/loveseat/internal/cli"
)

// version is set when a release is built.
var version = "dev"

// Main is one run of the program. Tests start it in-process.
type Main struct {
	Args   []string  // without the program's name
	Stdin  io.Reader // passwords are read from it; nil: there is none
	Stdout io.Writer
	Stderr io.Writer
	Getenv func(string) string
	Ready  func(url string) // called when requests are answered; may be nil

	f flags
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the program at once
	spareThreads(os.Getenv)
	m := &Main{Args: os.Args[1:], Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Getenv: os.Getenv}
	os.Exit(m.Run(ctx))
}

// usageError is the fault of who typed the command.
type usageError struct{ error }

// Run serves until ctx ends and returns the exit status: 0 stopped, 1 failed, 2 wrong usage.
func (m *Main) Run(ctx context.Context) int {
	m.Stderr, m.Stdout = cli.NewWriter(m.Stderr), cli.NewWriter(m.Stdout)
	err := m.command().ExecuteContext(ctx)
	var usage usageError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &usage):
		_, _ = fmt.Fprintf(m.Stderr, "hubserver: %s\nTry 'hubserver --help'.\n", cli.Lines(err.Error()))
		return 2
	}
	_, _ = fmt.Fprintf(m.Stderr, "hubserver: %s\n", cli.Lines(err.Error()))
	return 1
}

func (m *Main) command() *cobra.Command {
	root := &cobra.Command{
		Use:   "hubserver",
		Short: "Serve a hub: CouchDB's HTTP API over local databases",
		Long: `hubserver is the database that all peers can reach. It speaks CouchDB's HTTP API and
keeps its databases as SQLite files in one directory. Peers publish their shares in
its database "hub" and find each other there.

Without --admin everybody who reaches it may do everything, so it then listens on
loopback only. Each flag may be set in the environment too: LOVESEAT_ADDR,
LOVESEAT_DATA, LOVESEAT_ADMIN and so on, and in the TOML file that --config names:
addr, data, admin. The command line goes before the environment, and that before the
file. 'hubserver config' prints what is in force.

A password is best kept in the environment or the file: other users of the machine can
read it from a command line.`,
		Args:          noArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       version,
		RunE:          func(cmd *cobra.Command, _ []string) error { return m.serve(cmd) },
	}
	root.SetArgs(m.Args)
	root.SetOut(m.Stdout)
	root.SetErr(m.Stderr)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{cli.FlagError(err)} })
	m.f.register(root.PersistentFlags())
	root.AddCommand(m.configCommand(), m.userCommand(), m.backupCommand(), m.restoreCommand())
	root.CompletionOptions.DisableDefaultCmd = true
	return root
}

func noArgs(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError{fmt.Errorf("unknown argument %q", cli.Public(args[0]))}
	}
	return nil
}
