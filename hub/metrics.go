package hub

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metrics is what /_metrics tells Prometheus (https://prometheus.io/docs/instrumenting/exposition_formats/).
type metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	feeds    prometheus.Gauge
	handler  http.Handler
}

func (h *Hub) newMetrics() *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "loveseat_requests_total", Help: "Requests answered, by method and status.",
		}, []string{"method", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "loveseat_request_seconds", Help: "Time to answer a request, waiting changes feeds apart.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10, 60},
		}, []string{"method"}),
		feeds: prometheus.NewGauge(prometheus.GaugeOpts{Name: "loveseat_feeds", Help: "Changes feeds that are open and may wait."}),
	}
	r := prometheus.NewRegistry()
	r.MustRegister(m.requests, m.seconds, m.feeds, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "loveseat_databases", Help: "Databases on this server."}, h.countDatabases),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "loveseat_passwords_waiting", Help: "Passwords that are being hashed or wait for it."}, h.accounts.hasher.busy),
	)
	r.MustRegister(h.service.collectors()...)
	m.handler = promhttp.HandlerFor(r, promhttp.HandlerOpts{DisableCompression: true})
	return m
}

func (m *metrics) serve(w http.ResponseWriter, r *http.Request) { m.handler.ServeHTTP(w, r) }

// countDatabases is asked for when the metrics are read.
func (h *Hub) countDatabases() float64 {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	names, err := h.c.Store.Databases(ctx)
	if err != nil {
		h.c.Logger.Warn("the databases cannot be counted", "err", err)
	}
	return float64(len(names))
}

// begin counts a request that is a feed as long as it lasts.
func (m *metrics) begin(feed bool) {
	if feed {
		m.feeds.Inc()
	}
}

// end counts a request that has been answered. status is 0 if it was cut off.
func (m *metrics) end(method string, status int, feed bool, took time.Duration) {
	method = knownMethod(method)
	m.requests.WithLabelValues(method, strconv.Itoa(status)).Inc()
	if feed {
		m.feeds.Dec()
		return
	}
	if status == http.StatusSwitchingProtocols { // a relay: how long it lasts says nothing
		return
	}
	m.seconds.WithLabelValues(method).Observe(took.Seconds())
}

// knownMethod keeps what strangers write from making ever more series.
func knownMethod(m string) string {
	switch m {
	case "GET", "HEAD", "POST", "PUT", "DELETE", "COPY", "OPTIONS":
		return m
	}
	return "other"
}
