// Package e2e tests the real binaries together with a real PouchDB.
package e2e

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"
)

// bin is the directory of hubserver, loveseat and demo, built by TestMain.
var bin string

// countries is the npm package world-countries.
var countries, _ = filepath.Abs("node_modules/world-countries")

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if err := build(); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	defer os.RemoveAll(bin)
	code := m.Run()
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	if code != 0 {
		return code
	}
	if err := goleak.Find(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// build builds the binaries. LOVESEAT_RACE=1 in the environment puts the race detector into them.
func build() (err error) {
	if _, err := os.Stat("node_modules/.ok"); err != nil {
		return fmt.Errorf("the Node packages that these tests need are not installed: run make test")
	}
	if _, err := exec.LookPath("node"); err != nil {
		return fmt.Errorf("Node 20 or later is needed: install it and run make test")
	}
	if bin, err = os.MkdirTemp("", "loveseat-e2e-"); err != nil {
		return err
	}
	args := []string{"build", "-o", bin + string(filepath.Separator)}
	if os.Getenv("LOVESEAT_RACE") != "" {
		args = append(args, "-race")
	}
	out, err := exec.Command("go", append(args, "../cmd/hubserver", "../cmd/loveseat", "./demo")...).CombinedOutput()
	if err != nil {
		os.RemoveAll(bin)
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	return nil
}
