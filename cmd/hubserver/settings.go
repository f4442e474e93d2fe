package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/BurntSushi/toml"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/loveseat-db/loveseat/internal/cli"
)

// Where a setting comes from, most to least important.
const (
	fromFlag    = "flag"
	fromEnv     = "environment"
	fromFile    = "file"
	fromDefault = "default"
)

// settle gives the flags that the command line does not set their values from
// the environment and the configuration file, and returns where each comes from.
func (m *Main) settle(fl *pflag.FlagSet) (map[string]string, error) {
	from := map[string]string{}
	fl.VisitAll(func(f *pflag.Flag) {
		if from[f.Name] = fromDefault; f.Changed {
			from[f.Name] = fromFlag
		}
	})
	if err := m.fromEnv(fl, from); err != nil {
		return nil, err
	}
	if m.f.config == "" {
		return from, nil
	}
	values := map[string]any{}
	if _, err := toml.DecodeFile(m.f.config, &values); err != nil {
		var syntax toml.ParseError
		if errors.As(err, &syntax) { // its text quotes the file
			return nil, usageError{fmt.Errorf("%s: line %d is not TOML", m.f.config, syntax.Position.Line)}
		}
		return nil, fmt.Errorf("--config: %w", err)
	}
	for name, v := range values {
		f := fl.Lookup(name)
		if f == nil || !isSetting(name) || name == "config" {
			return nil, usageError{fmt.Errorf("%s: there is no setting %q; 'hubserver config' prints them all", m.f.config, name)}
		}
		if from[name] != fromDefault {
			continue
		}
		if err := setValue(f, v); err != nil {
			return nil, usageError{fmt.Errorf("%s: invalid value for %s", m.f.config, name)} // not the value: it may be a secret
		}
		from[name] = fromFile
	}
	return from, nil
}

func (m *Main) fromEnv(fl *pflag.FlagSet, from map[string]string) error {
	var bad error
	fl.VisitAll(func(f *pflag.Flag) {
		name := "LOVESEAT_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		v := m.Getenv(name)
		if v == "" || from[f.Name] != fromDefault || !isSetting(f.Name) {
			return
		}
		if err := f.Value.Set(v); err != nil {
			bad = usageError{fmt.Errorf("%s: invalid value for --%s", name, f.Name)}
		}
		from[f.Name] = fromEnv
	})
	return bad
}

// isSetting reports whether a flag is more than a word of the command line.
func isSetting(name string) bool { return name != "help" && name != "version" }

// setValue sets a flag to a value of TOML: a list if the flag is repeatable.
func setValue(f *pflag.Flag, v any) error {
	list, isList := v.([]any)
	s, takesList := f.Value.(pflag.SliceValue)
	if !isList {
		list = []any{v}
	}
	var texts []string
	for _, e := range list {
		switch e.(type) {
		case string, bool, int64, float64:
			texts = append(texts, fmt.Sprint(e))
		default:
			return fmt.Errorf("unexpected %T", e)
		}
	}
	switch {
	case takesList:
		return s.Replace(texts)
	case isList:
		return errors.New("not a list")
	}
	return f.Value.Set(texts[0])
}

// secretMark marks flags of which 'hubserver config' prints only what is before a separator.
const secretMark = "secret"

// markSecret keeps a flag's value from being printed, but for what is before sep ("": all of it).
func markSecret(fl *pflag.FlagSet, name, sep string) {
	_ = fl.SetAnnotation(name, secretMark, []string{sep})
}

// configCommand prints what is in force, as a configuration file.
func (m *Main) configCommand() *cobra.Command {
	return &cobra.Command{
		Use: "config", Short: "Print the settings in force, without secrets, as a configuration file", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			from, err := m.settle(cmd.Flags())
			if err != nil {
				return err
			}
			var out strings.Builder
			cmd.Root().PersistentFlags().VisitAll(func(f *pflag.Flag) {
				if !isSetting(f.Name) || f.Name == "config" {
					return
				}
				usage := strings.ReplaceAll(f.Usage, "`", "")
				fmt.Fprintf(&out, "# %s\n%s = %s  # %s\n\n", usage, f.Name, printable(f), from[f.Name])
			})
			_, err = io.WriteString(m.Stdout, out.String())
			return err
		},
	}
}

// printable is a flag's value as TOML, without secrets.
func printable(f *pflag.Flag) string {
	if s, ok := f.Value.(pflag.SliceValue); ok {
		var list []string
		for _, v := range s.GetSlice() {
			list = append(list, quoted(redacted(f, v)))
		}
		return "[" + strings.Join(list, ", ") + "]"
	}
	v := f.Value.String()
	switch f.Value.Type() {
	case "bool", "int", "int64", "float64":
		return v
	}
	return quoted(redacted(f, v))
}

func redacted(f *pflag.Flag, v string) string {
	if mark := f.Annotations[secretMark]; len(mark) > 0 && v != "" {
		before, _, ok := strings.Cut(v, mark[0])
		if mark[0] == "" || !ok {
			return "…"
		}
		return before + mark[0] + "…"
	}
	if _, rest, ok := strings.Cut(v, "://"); !ok || !strings.Contains(rest, "@") {
		return v
	}
	return cli.Public(v)
}

// quoted writes a basic string of TOML.
func quoted(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteString(`\` + string(r))
		case r < 0x20 || r == 0x7f:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	return `"` + b.String() + `"`
}

// fileMode is how secrets are written.
const fileMode os.FileMode = 0o600

// tomlString reads one string of TOML, with its quotes; ok is false if it is none.
func tomlString(token string) (s string, ok bool) {
	var v struct{ V string }
	if _, err := toml.Decode("v = "+token, &v); err != nil {
		return "", false
	}
	return v.V, true
}
