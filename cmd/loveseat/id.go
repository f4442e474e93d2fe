package main

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/loveseat-db/loveseat/share"
)

func (m *Main) idCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "id [PEER]",
		Short: "Show who this peer is, and the code to verify another one",
		Long: `Id shows the device key that this peer is known by. With the id of another peer it
shows the verification code of both: if that peer's side shows the same number
(read it aloud, over the telephone say), nobody is between you.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 || len(args) == 1 && !peerForm.MatchString(args[0]) {
				return usageError{fmt.Errorf("usage: loveseat id [PEER], PEER being a whole peer id such as %s", strings.Repeat("abcd-", 7)+"abcd")}
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 1 {
				return m.runVerificationCode(args[0], asJSON)
			}
			return m.runID(asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	cmd.AddCommand(m.idExportCommand(), m.idImportCommand(), m.idRotateCommand())
	return cmd
}

var peerForm = regexp.MustCompile(`^([a-z2-7]{4}-){7}[a-z2-7]{4}$`)

// ownIdentity is the device key of a command that works on no database.
func (m *Main) ownIdentity() (id *share.Identity, dir string, err error) {
	if dir, err = m.identityDir(); err != nil {
		return nil, "", err
	}
	id, err = share.LoadIdentity(dir)
	return id, dir, err
}

// keptIdentity is ownIdentity where one must be there already.
func (m *Main) keptIdentity() (id *share.Identity, dir string, err error) {
	if dir, err = m.identityDir(); err != nil {
		return nil, "", err
	}
	if _, err := os.Stat(share.IdentityFile(dir)); errors.Is(err, fs.ErrNotExist) {
		return nil, "", fmt.Errorf("there is no device key in %s (name its directory with --identity DIR; that of a local database is in its store)", dir)
	}
	id, err = share.LoadIdentity(dir)
	return id, dir, err
}

func (m *Main) runID(asJSON bool) error {
	id, dir, err := m.ownIdentity()
	if err != nil {
		return err
	}
	keys := id.Keys()
	fields := map[string]any{
		"peer": id.ID(), "short": share.ShortID(id.ID()), "file": share.IdentityFile(dir),
		"sign": fingerprint(keys.Sign), "seal": fingerprint(keys.Seal), "predecessors": id.Predecessors(),
	}
	text := fmt.Sprintf("peer     %s\nshort    %s\nfile     %s\nsigning  Ed25519 %s\nsealing  X25519 %s",
		id.ID(), share.ShortID(id.ID()), share.IdentityFile(dir), fingerprint(keys.Sign), fingerprint(keys.Seal))
	for _, before := range id.Predecessors() {
		text += "\nbefore   " + before
	}
	m.reporter(asJSON).Event("id", fields, text)
	return nil
}

// fingerprint is a key's SHA-256 as ssh-keygen shows it.
func fingerprint(key []byte) string {
	sum := sha256.Sum256(key)
	return "SHA256:" + base64.RawStdEncoding.EncodeToString(sum[:])
}

func (m *Main) runVerificationCode(peer string, asJSON bool) error {
	id, _, err := m.ownIdentity()
	if err != nil {
		return err
	}
	code := share.VerificationCode(id.ID(), peer)
	m.reporter(asJSON).Event("code", map[string]any{"peer": id.ID(), "with": peer, "code": code},
		fmt.Sprintf("%s\n\nThe other side gets the same with\n\n  loveseat id %s", code, id.ID()))
	return nil
}

func (m *Main) idExportCommand() *cobra.Command {
	var plain bool
	cmd := &cobra.Command{
		Use:   "export FILE",
		Short: "Write the device key to a file (-: standard output), encrypted with a passphrase",
		Long: `Export writes the device key to a new file, to keep elsewhere or to move to another
machine. The passphrase is asked for, or taken from LOVESEAT_PASSPHRASE. Who has the
file and the passphrase is this peer.`,
		Args: exactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return m.runIDExport(args[0], plain) },
	}
	cmd.Flags().BoolVar(&plain, "plain", false, "do not encrypt it: who has the file is this peer")
	return cmd
}

func (m *Main) runIDExport(file string, plain bool) error {
	id, _, err := m.keptIdentity()
	if err != nil {
		return err
	}
	text, err := m.exported(id, plain)
	if err != nil {
		return err
	}
	if file == "-" {
		_, err = m.Stdout.Write(text)
		return err
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		_ = os.Remove(file)
		return err
	}
	_, _ = fmt.Fprintf(m.Stdout, "The device key of %s is in %s. Try it where it matters: loveseat --identity DIR id import %s\n", share.ShortID(id.ID()), file, file)
	return nil
}

func (m *Main) exported(id *share.Identity, plain bool) ([]byte, error) {
	if plain {
		return id.ExportPlain()
	}
	passphrase, err := m.passphrase(true)
	if err != nil {
		return nil, err
	}
	return id.Export(passphrase)
}

func (m *Main) idImportCommand() *cobra.Command {
	var replace bool
	cmd := &cobra.Command{
		Use:   "import FILE",
		Short: "Take a device key from a file (-: standard input)",
		Args:  exactArgs(1),
		RunE:  func(_ *cobra.Command, args []string) error { return m.runIDImport(args[0], replace) },
	}
	cmd.Flags().BoolVar(&replace, "replace", false, "take the place of the device key that is there, which is kept in a file beside it")
	return cmd
}

const maxIdentityFile = 64 << 10

func (m *Main) runIDImport(file string, replace bool) error {
	text, err := m.readIdentityFile(file)
	if err != nil {
		return err
	}
	var passphrase []byte
	if share.IsEncryptedIdentity(text) {
		if passphrase, err = m.passphrase(false); err != nil {
			return err
		}
	}
	id, err := share.ParseIdentity(text, passphrase)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	dir, err := m.identityDir()
	if err != nil {
		return err
	}
	backup, err := share.SaveIdentity(dir, id, replace)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%w (--replace puts this one in its place, --identity DIR elsewhere)", err)
	}
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintf(m.Stdout, "This is peer %s now.\n", id.ID())
	if backup != "" {
		_, _ = fmt.Fprintf(m.Stdout, "The device key that was there is in %s.\n", backup)
	}
	return nil
}

func (m *Main) readIdentityFile(file string) ([]byte, error) {
	if file == "-" {
		return io.ReadAll(io.LimitReader(m.Stdin, maxIdentityFile))
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxIdentityFile))
}

func (m *Main) idRotateCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "rotate",
		Short: "Make new keys for this peer; those who know the old ones follow",
		Long: `Rotate replaces the device key by a new one. The old key signs that the new one is
its successor, so that links and allowlists go on: the others check that.
What was published with the old key expires. Restart what runs with it. It is no
help against a thief of the old key: have that peer revoked where it was let in.`,
		Args: exactArgs(0),
		RunE: func(*cobra.Command, []string) error { return m.runIDRotate() },
	}
}

func (m *Main) runIDRotate() error {
	_, dir, err := m.keptIdentity()
	if err != nil {
		return err
	}
	before, after, backup, err := share.RotateIdentity(dir)
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintf(m.Stdout, "This is peer %s now; it was %s.\nThe old device key is in %s: delete it when nothing needs it.\nRestart what runs with it.\n", after.ID(), before.ID(), backup)
	return nil
}

// passphrase takes a passphrase from LOVESEAT_PASSPHRASE, or asks for it, twice for a new one.
func (m *Main) passphrase(isNew bool) ([]byte, error) {
	if p := m.Getenv("LOVESEAT_PASSPHRASE"); p != "" {
		return []byte(p), nil
	}
	in, ok := m.Stdin.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return nil, errors.New("a passphrase is needed: put it into LOVESEAT_PASSPHRASE, since there is no terminal to ask for it")
	}
	p, err := m.ask(in, "Passphrase: ")
	if err != nil || !isNew {
		return p, err
	}
	again, err := m.ask(in, "Once more: ")
	if err == nil && !bytes.Equal(p, again) {
		err = errors.New("the passphrases differ")
	}
	return p, cmp.Or(err, emptyPassphrase(p))
}

func emptyPassphrase(p []byte) error {
	if len(p) == 0 {
		return errors.New("an empty passphrase protects nothing (--plain writes the key unencrypted)")
	}
	return nil
}

func (m *Main) ask(in *os.File, prompt string) ([]byte, error) {
	_, _ = fmt.Fprint(m.Stderr, prompt)
	defer fmt.Fprintln(m.Stderr)
	return term.ReadPassword(int(in.Fd()))
}
