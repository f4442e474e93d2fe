package cli

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"unicode"

	"github.com/spf13/pflag"
)

// ErrURL is what is said of a URL that cannot be read. None of it is repeated, since any part may be a password's.
var ErrURL = errors.New("this is not a URL like http://NAME:PASSWORD@HOST:PORT/DATABASE: " + howTo)

// howTo is how to write a password.
const howTo = "in NAME and PASSWORD write / as %2F, ? as %3F, # as %23, @ as %40, : as %3A and % as %25; " +
	"the whole URL may be in LOVESEAT_HUB, HUB is then written without NAME:PASSWORD@"

// ParseURL reads a URL that may hold a name and a password, for every command. In these
// all characters may stand as they are but those that end them for other programs: "/",
// "?" and "#". A URL in which they stand before an "@" is refused, lest a part of the password
// be taken for a host. Errors: [ErrURL].
func ParseURL(s string) (*url.URL, error) {
	scheme, rest, ok := strings.Cut(s, "://")
	at := strings.LastIndexByte(rest, '@')
	if !ok || isAmbiguous(rest) || !isScheme(scheme) {
		return nil, ErrURL
	}
	u, err := url.Parse(scheme + "://" + rest[at+1:])
	if err != nil || u.Host == "" || u.User != nil || strings.HasSuffix(u.Host, ":") {
		return nil, ErrURL
	}
	if at >= 0 {
		u.User = userinfo(rest[:at])
	}
	return u, nil
}

// isAmbiguous reports whether what follows "://" has its last "@" where there can be no name and password any more.
func isAmbiguous(rest string) bool {
	end := strings.IndexAny(rest, "/?#")
	return end >= 0 && strings.LastIndexByte(rest, '@') > end
}

func isScheme(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(c rune) bool { return c > unicode.MaxASCII || !unicode.IsLetter(c) })
}

func userinfo(s string) *url.Userinfo {
	name, password, ok := strings.Cut(s, ":")
	if !ok {
		return url.User(unescaped(name))
	}
	return url.UserPassword(unescaped(name), unescaped(password))
}

// unescaped decodes percent-encoding; what has a percent sign that stands for itself is taken as it is.
func unescaped(s string) string {
	if v, err := url.PathUnescape(s); err == nil {
		return v
	}
	return s
}

// Hides reports whether an argument may hold a password: a URL, or what looks like one
// without its beginning.
func Hides(arg string) bool {
	if strings.Contains(arg, "://") {
		return true
	}
	before, _, ok := cutLast(arg, '@')
	isPath := strings.HasPrefix(arg, "/") && !strings.HasPrefix(arg, "//") || strings.HasPrefix(arg, "./") || strings.HasPrefix(arg, "../") || strings.HasPrefix(arg, "~")
	return ok && strings.Contains(before, ":") && !isPath
}

func cutLast(s string, sep byte) (before, after string, ok bool) {
	if i := strings.LastIndexByte(s, sep); i >= 0 {
		return s[:i], s[i+1:], true
	}
	return s, "", false
}

// Public is what may be shown of an argument: a path as it is, a URL without name and
// password, and without what follows "#", an invite's secret.
func Public(arg string) string {
	if !Hides(arg) {
		return arg
	}
	u, err := ParseURL(arg)
	if err != nil {
		return "the URL"
	}
	u.User, u.RawQuery, u.ForceQuery, u.Fragment, u.RawFragment = nil, "", false, "", ""
	return u.String()
}

// FlagError is an error of the command line's flags, which may repeat a word that holds
// a password: then it is said without.
func FlagError(err error) error {
	var unknown *pflag.NotExistError
	var value *pflag.InvalidValueError
	switch {
	case errors.As(err, &unknown):
		if !isWord(unknown.GetSpecifiedName()) || unknown.GetSpecifiedShortnames() != "" && !isWord(unknown.GetSpecifiedShortnames()) {
			return errors.New("a flag is unknown")
		}
	case errors.As(err, &value):
		if Hides(value.GetValue()) || strings.Contains(value.GetValue(), "@") {
			return fmt.Errorf("the value of --%s is wrong", value.GetFlag().Name)
		}
	case errors.As(err, new(*pflag.InvalidSyntaxError)), strings.ContainsAny(err.Error(), "@/"):
		return errors.New("the flags cannot be read")
	}
	return err
}

func isWord(s string) bool {
	return !strings.ContainsFunc(s, func(c rune) bool { return c != '-' && (c < 'a' || c > 'z') })
}

// Check refuses a URL with a name or a password that cannot be read. Errors: [ErrURL].
func Check(arg string) error {
	if _, rest, ok := strings.Cut(arg, "://"); !ok || !strings.Contains(rest, "@") {
		return nil
	}
	_, err := ParseURL(arg)
	return err
}
