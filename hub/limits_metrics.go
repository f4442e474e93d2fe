package hub

import "github.com/prometheus/client_golang/prometheus"

// collectors are the metrics of the hub's own duties.
func (s *service) collectors() []prometheus.Collector {
	counter := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, value)
	}
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value)
	}
	c := &s.counts
	out := []prometheus.Collector{
		counter("loveseat_shares_written_total", "Share documents written, renewals included.", func() float64 { return float64(c.Shares.Load()) }),
		counter("loveseat_signals_total", "Signals sent through hub databases.", func() float64 { return float64(c.Signals.Load()) }),
		counter("loveseat_purged_total", "Expired documents and tombstones purged from hub databases.", func() float64 { return float64(c.Purged.Load()) }),
		gauge("loveseat_peers", "Peers that have written something in the last hour.", func() float64 { return float64(c.Peers()) }),
		gauge("loveseat_relay_sessions", "Sessions in which peers talk through the hub at the moment.", func() float64 { return float64(s.relays.count()) }),
		counter("loveseat_relay_bytes_total", "Bytes passed on between peers that talk through the hub.", func() float64 { return float64(s.relays.bytes.Load()) }),
		gauge("loveseat_clients", "Users and addresses that quotas are counted for.", func() float64 { return float64(s.quotas.count()) }),
	}
	if stats := s.ice.Stats; stats != nil {
		out = append(out,
			gauge("loveseat_turn_relays", "Relays of the TURN server at the moment.", func() float64 { return float64(stats().Relays) }),
			counter("loveseat_turn_bytes_total", "Bytes relayed by the TURN server.", func() float64 { return float64(stats().Bytes) }),
			counter("loveseat_turn_dropped_total", "Packets that the TURN server dropped beyond a user's bandwidth.", func() float64 { return float64(stats().Dropped) }),
		)
	}
	return out
}

func (l *limiter) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.clients)
}
