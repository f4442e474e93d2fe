package hub

import (
	"bufio"
	"encoding/json"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/loveseat-db/loveseat/internal/hubdoc"
)

// TestSignalRate sends signals between peers of one hub and measures how long
// each takes to be told to its recipient: 2,000 a second with LOVESEAT_SOAK=1.
func TestSignalRate(t *testing.T) {
	peers, rate, seconds := 10, 200, 1
	if os.Getenv("LOVESEAT_SOAK") != "" {
		peers, rate, seconds = 50, 2000, 10
	}
	if n, err := strconv.Atoi(os.Getenv("LOVESEAT_RATE")); err == nil {
		rate = n
	}
	free := Quotas{Requests: -1, Documents: -1, Signals: -1, Concurrent: -1, Feeds: -1, Waiting: -1, WaitingBytes: -1}
	all := []string{Anybody}
	s := startUsers(t, Config{Service: Service{Quotas: free, Databases: []Database{{Name: "hub", List: all, Publish: all, Open: all, Signal: all}}}})
	devices := make([]*device, peers)
	sent := &times{at: map[string]time.Time{}}
	for i := range devices {
		devices[i] = newDevice(t)
		lines, closer := s.open("/hub/_changes?feed=continuous&since=now&include_docs=true", s.proof(devices[i], "GET", "/hub/_changes", hubdoc.ToRead))
		defer closer.Close()
		go sent.receive(lines)
	}
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	var wg sync.WaitGroup
	tick := time.NewTicker(time.Second / time.Duration(rate))
	defer tick.Stop()
	slots := make(chan struct{}, 64)
	begun := time.Now()
	for n := range rate * seconds {
		<-tick.C
		slots <- struct{}{}
		from, to := devices[n%peers], devices[(n+1)%peers]
		wg.Go(func() {
			defer func() { <-slots }()
			id, body := from.signal(t, to, nil)
			sent.send(id)
			req, _ := http.NewRequest("PUT", s.url+"/hub/"+id, strings.NewReader(body))
			req.Header.Set("Content-Type", "application/json")
			name, proof, _ := strings.Cut(s.proof(from, "PUT", "/hub/"+id, hubdoc.ToClaim), ": ")
			req.Header.Set(name, proof)
			resp, err := client.Do(req)
			if err != nil {
				t.Error(err)
				return
			}
			resp.Body.Close()
			if resp.StatusCode != 201 {
				t.Errorf("status %d", resp.StatusCode)
			}
		})
	}
	wg.Wait()
	took := time.Since(begun)
	for deadline := time.Now().Add(10 * time.Second); sent.waiting() > 0 && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	sent.mu.Lock()
	defer sent.mu.Unlock()
	slices.Sort(sent.took)
	if len(sent.took) < rate*seconds {
		t.Fatalf("%d of %d signals came", len(sent.took), rate*seconds)
	}
	t.Logf("%.0f signals/s, send to receive p50 %v, p99 %v", float64(rate*seconds)/took.Seconds(), sent.took[len(sent.took)/2], sent.took[len(sent.took)*99/100])
}

// times knows when each signal was sent, until it has come.
type times struct {
	mu   sync.Mutex
	at   map[string]time.Time
	took []time.Duration
}

func (s *times) send(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at[id] = time.Now()
}

func (s *times) waiting() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.at)
}

func (s *times) receive(lines *bufio.Scanner) {
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var c struct{ ID string }
		if json.Unmarshal(lines.Bytes(), &c) != nil {
			continue
		}
		s.mu.Lock()
		if at, ok := s.at[c.ID]; ok {
			s.took = append(s.took, time.Since(at))
			delete(s.at, c.ID)
		}
		s.mu.Unlock()
	}
}
