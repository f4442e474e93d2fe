package share

import (
	"errors"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/loveseat-db/loveseat/internal/couch"
	"github.com/loveseat-db/loveseat/internal/couchkivik"
)

func TestMain(m *testing.M) {
	couchkivik.Register(DriverName, func(string) (couch.Store, error) { return nil, errors.ErrUnsupported })
	code := m.Run()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			println(err.Error())
			code = 1
		}
	}
	os.Exit(code)
}
