package localdb

import (
	"strings"

	"github.com/loveseat-db/loveseat/internal/couch"
)

const (
	fileSuffix = ".sqlite"
	attsSuffix = ".attachments"
	maxName    = 200 // bytes of an escaped name: suffixes must fit into 255
)

// fileName is the file name, without suffix, of a database: its name with "/"
// as "%2F", which no name contains. Names have no dots and no upper case, so
// nothing can leave the directory or differ by case only.
//
// https://docs.couchdb.org/en/stable/api/database/common.html#put--db
func fileName(name string) (string, error) {
	file := strings.ReplaceAll(name, "/", "%2F")
	if !validName(name) || len(file) > maxName {
		return "", &couch.Error{Status: 400, Code: "illegal_database_name", Reason: "Name: '" + name +
			"'. Only lowercase characters (a-z), digits (0-9), and any of the characters _, $, (, ), +, -, and / are allowed. Must begin with a letter."}
	}
	return file, nil
}

// databaseName is the inverse of fileName with its suffix; false for other files.
func databaseName(file string) (string, bool) {
	base, ok := strings.CutSuffix(file, fileSuffix)
	name := strings.ReplaceAll(base, "%2F", "/")
	return name, ok && validName(name)
}

func validName(name string) bool {
	if name == "_users" || name == "_replicator" {
		return true
	}
	if name == "" || name[0] < 'a' || name[0] > 'z' {
		return false
	}
	for i := range len(name) {
		c := name[i]
		if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || strings.IndexByte("_$()+/-", c) >= 0) {
			return false
		}
	}
	return true
}
