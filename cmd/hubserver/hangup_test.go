package main

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// TestHangup: SIGHUP makes the hub read its certificate again, even one whose files
// look as old as before, and ends no hub.
func TestHangup(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	past := time.Now().Add(-time.Hour)
	renew := func(serial int64) {
		newCertificate(t, cert, key, serial)
		for _, name := range []string{cert, key} {
			if err := os.Chtimes(name, past, past); err != nil {
				t.Fatal(err)
			}
		}
	}
	renew(1)
	plain, _ := serve(t, nil, "--addr", "127.0.0.1:0", "--data", t.TempDir())
	url, _ := serve(t, nil, "--addr", "127.0.0.1:0", "--data", t.TempDir(), "--tls-cert", cert, "--tls-key", key)
	renew(2)
	if n := serial(t, url); n != 1 {
		t.Fatalf("certificate %d before the signal", n)
	}
	self, err := os.FindProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if err := self.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(30 * time.Second); serial(t, url) != 2; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the certificate has not been read again")
		}
	}
	if status := get(t, plain+"/_up", "", ""); status != 200 {
		t.Errorf("%d", status)
	}
}
