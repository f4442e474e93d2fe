// Command loveseat is a peer on the command line: it keeps local databases,
// shares them with others through a hub, opens and replicates theirs.
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
	"github.com/loveseat-db/loveseat/peeradapter"
	"github.com/loveseat-db/loveseat/share"
)

// Main is one run of the program. Tests start it in-process.
type Main struct {
	Args   []string // without the program's name
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer
	Getenv func(string) string

	tty, raw io.Writer          // Stderr and Stdout before what is written there was made harmless
	identity string             // --identity
	verbose  bool               // --verbose
	opening  share.OpenOptions  // --invite, --device
	network  peeradapter.Config // --interface, --network, --udp-port, --relay-only
	events   *reporter          // told of the connections to the peers whose shares openEnd opens; nil: nobody is
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the program at once
	tuneMemory(os.Getenv)
	m := &Main{Args: os.Args[1:], Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Getenv: os.Getenv}
	os.Exit(m.Run(ctx))
}

// Run executes the command and returns the exit status: 0 done, 1 failed, 2 wrong usage,
// 130 interrupted before it was done.
func (m *Main) Run(ctx context.Context) int {
	m.tty, m.raw = m.Stderr, m.Stdout
	m.Stderr, m.Stdout = cli.NewWriter(m.Stderr), cli.NewWriter(m.Stdout)
	root := m.command()
	err := root.ExecuteContext(ctx)
	var usage usageError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &usage):
		_, _ = fmt.Fprintf(m.Stderr, "loveseat: %s\nTry 'loveseat help'.\n", cli.Lines(err.Error()))
		return 2
	case errors.Is(err, context.Canceled) && ctx.Err() != nil:
		_, _ = fmt.Fprintln(m.Stderr, "loveseat: interrupted")
		return 130
	}
	_, _ = fmt.Fprintf(m.Stderr, "loveseat: %s\n", cli.Lines(err.Error()))
	return 1
}

func (m *Main) command() *cobra.Command {
	root := &cobra.Command{
		Use:   "loveseat",
		Short: "Share local databases with peers, and replicate with theirs",
		Long: `loveseat keeps local databases, shares them with peers through a hub, and queries
or replicates what peers share.

  HUB    the URL of a hub database, such as http://127.0.0.1:5984/hub
  DB     a local database as a path: ./data/notes is the database "notes" in the store ./data
  SHARE  a share's id, its unique name, or its link`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError{fmt.Errorf("unknown command %q", cli.Public(args[0]))}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetArgs(m.Args)
	root.SetIn(m.Stdin)
	root.SetOut(m.Stdout)
	root.SetErr(m.Stderr)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{cli.FlagError(err)} })
	root.PersistentPreRunE = m.checkURLs
	root.PersistentFlags().StringVar(&m.identity, "identity", "", "`directory` of the device key (default: the local database's store, or the user's configuration)")
	root.PersistentFlags().BoolVar(&m.verbose, "verbose", false, "log what happens to standard error")
	root.AddCommand(m.importCommand(), m.exportCommand(), m.shareCommand(), m.lsCommand(), m.openCommand(), m.syncCommand(), m.joinCommand(), m.verifyCommand(), m.conflictsCommand(), m.idCommand(), m.doctorCommand(), m.revokeCommand(), m.authorsCommand())
	networkFlags(root, &m.network)
	m.openingFlags(root)
	return root
}

// checkURLs refuses URLs whose password cannot be told from their host, before anything is done with them.
func (m *Main) checkURLs(cmd *cobra.Command, args []string) error {
	if cmd.Name() == "authors" { // a document's id may be anything
		args = args[:1]
	}
	for _, arg := range args {
		if err := cli.Check(arg); err != nil {
			return usageError{err}
		}
	}
	if hub := m.Getenv("LOVESEAT_HUB"); hub != "" {
		if _, err := cli.ParseURL(hub); err != nil {
			return usageError{fmt.Errorf("LOVESEAT_HUB: %w", err)}
		}
	}
	return nil
}

// usageError is a mistake in the command's words.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// exactArgs is cobra.ExactArgs as a usageError.
func exactArgs(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != n {
			return usageError{fmt.Errorf("usage: %s (%d arguments were given)", cmd.UseLine(), len(args))}
		}
		return nil
	}
}
