package e2e

import (
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestAcknowledgedWritesSurvive: clients write documents, bulks, attachments, _local documents and signals
// to the hub, which is killed again and again. What was acknowledged is there, no sequence is
// reused, and the changes feed goes on where it was. With LOVESEAT_SOAK it takes LOVESEAT_SOAK_TIME, or ten minutes.
func TestAcknowledgedWritesSurvive(t *testing.T) {
	if os.Getenv("LOVESEAT_SOAK") == "" {
		t.Parallel()
		l := newLoad(t, testTime)
		for range 20 {
			l.round(100 + l.random.IntN(100))
		}
		l.report()
		return
	}
	length, err := time.ParseDuration(os.Getenv("LOVESEAT_SOAK_TIME"))
	if err != nil {
		length = 10 * time.Minute
	}
	l := newLoad(t, length+10*time.Minute)
	for end := time.Now().Add(length); time.Now().Before(end); {
		l.round(1 + l.random.IntN(3000))
	}
	l.report()
}

// number is the number at the start of an update sequence.
func (w *world) number(seq string) int64 {
	w.Helper()
	digits, _, _ := strings.Cut(seq, "-")
	n, err := strconv.ParseInt(digits, 10, 64)
	w.ok(err)
	return n
}
