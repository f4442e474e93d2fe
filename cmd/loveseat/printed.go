package main

import (
	"strings"
	"unicode"

	"github.com/loveseat-db/loveseat/internal/cli"
)

// hubWord is the hub's URL as a word of a command that is printed, to be copied: without a
// password, which is in LOVESEAT_HUB.
func (m *Main) hubWord(hub string) string {
	if hub != "" && hub == m.Getenv("LOVESEAT_HUB") {
		return `"$LOVESEAT_HUB"`
	}
	return shellWord(cli.Public(hub))
}

// hubHint says how the commands with hubWord sign in, if the hub was given with a password.
func (m *Main) hubHint(hub string) string {
	if u, err := cli.ParseURL(m.withCredentials(hub)); err != nil || u.User == nil {
		return ""
	}
	return "\nwith a name and a password of this hub in the environment, LOVESEAT_HUB=http://NAME:PASSWORD@HOST:PORT/DATABASE\n"
}

// shellWord quotes what is not one plain word to a shell.
func shellWord(s string) string {
	if s != "" && !strings.ContainsFunc(s, func(c rune) bool {
		return !unicode.IsLetter(c) && !unicode.IsDigit(c) && !strings.ContainsRune("-_./:,%+=@", c)
	}) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// tryCurl is the commands that look at an opened database. Its name is the sharer's.
func tryCurl(address string) string {
	return "  curl " + shellWord(address) + "\n  curl " + shellWord(address+"/_all_docs?limit=5") + "\n"
}
