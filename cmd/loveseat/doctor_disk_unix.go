//go:build unix && !solaris && !illumos && !aix && !netbsd && !openbsd

package main

import "syscall"

// freeSpace returns the bytes that are free for this user where path is.
func freeSpace(path string) (bytes int64, known bool) {
	var s syscall.Statfs_t
	if syscall.Statfs(path, &s) != nil {
		return 0, false
	}
	return int64(s.Bavail) * int64(s.Bsize), true //nolint:unconvert // their types differ between systems
}
