package main

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/tillgate/tillgate/acquirer/cardhost"
	"github.com/tillgate/tillgate/notify"
	"github.com/tillgate/tillgate/payment"
	"github.com/tillgate/tillgate/sqlstore"
)

// metrics are the program's measures, in Prometheus's form. docs/operations.md lists them.
type metrics struct {
	registry   *prometheus.Registry
	operations *prometheus.CounterVec
	latency    *prometheus.HistogramVec
	requests   *prometheus.HistogramVec
	exchanges  *prometheus.HistogramVec
	dropped    *prometheus.CounterVec
	lines      prometheus.Gauge
	notices    *prometheus.CounterVec
}

func newMetrics() *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		operations: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "tillgate_operations_total",
			Help: "Operations whose outcome became final, by protocol, kind and outcome."}, []string{"protocol", "kind", "outcome"}),
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "tillgate_operation_seconds",
			Help:    "Time from an operation's creation to its final outcome.",
			Buckets: []float64{.005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10, 30, 60, 300, 3600}}, []string{"protocol", "kind"}),
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "tillgate_request_seconds",
			Help:    "Time to answer a request, by protocol and HTTP status.",
			Buckets: []float64{.001, .005, .01, .02, .05, .1, .5, 1, 5, 10, 30}}, []string{"protocol", "status"}),
		exchanges: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "tillgate_card_exchange_seconds",
			Help:    "Time to the card host's answer, by message type and response code; the code is empty for silence.",
			Buckets: []float64{.001, .005, .01, .02, .05, .1, .5, 1, 5, 10}}, []string{"mti", "code"}),
		dropped: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "tillgate_card_dropped_total",
			Help: "What came from the card host and could not be used, by why."}, []string{"why"}),
		lines: prometheus.NewGauge(prometheus.GaugeOpts{Name: "tillgate_card_lines", Help: "Lines to the card host that are signed on."}),
		notices: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "tillgate_notices_total",
			Help: "Tries to send callbacks and webhooks, by protocol and result."}, []string{"protocol", "result"}),
	}
	m.registry.MustRegister(m.operations, m.latency, m.requests, m.exchanges, m.dropped, m.lines, m.notices, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	// What counts from zero is told from the start, so that a rate can be taken of the first.
	for _, why := range []cardhost.Drop{cardhost.DropLate, cardhost.DropGarbled, cardhost.DropMAC, cardhost.DropDiffers} {
		m.dropped.WithLabelValues(string(why))
	}
	for _, result := range []notify.Result{notify.Accepted, notify.Failed, notify.GivenUp} {
		for _, protocol := range []string{"uqpay", "upay", "iotpay"} {
			m.notices.WithLabelValues(protocol, string(result))
		}
	}
	return m
}

// watch adds a measure that is read when asked for.
func (m *metrics) watch(name, help string, read func() float64) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, read))
}

// settled counts an operation whose outcome became final.
func (m *metrics) settled(op *payment.Operation, protocol string) {
	m.operations.WithLabelValues(protocol, string(op.Kind), string(op.State)).Inc()
	m.latency.WithLabelValues(protocol, string(op.Kind)).Observe(op.SettledAt.Sub(op.CreatedAt).Seconds())
}

func (m *metrics) request(protocol string, status int, took time.Duration) {
	m.requests.WithLabelValues(protocol, strconv.Itoa(status)).Observe(took.Seconds())
}

// commits tells how the store commits in groups. The histogram's sum is the work that the commits carried.
func (m *metrics) commits(store *sqlstore.Store) {
	m.registry.MustRegister(commitCollector{store})
	m.watch("tillgate_store_queue", "Transactions that wait for their turn.", func() float64 { return float64(store.Stats().Queue) })
}

type commitCollector struct{ store *sqlstore.Store }

var groupSizes = prometheus.NewDesc("tillgate_commit_group_size", "Transactions that shared one commit.", nil, nil)

// Describe is prometheus.Collector's.
func (c commitCollector) Describe(out chan<- *prometheus.Desc) { out <- groupSizes }

// Collect is prometheus.Collector's.
func (c commitCollector) Collect(out chan<- prometheus.Metric) {
	s := c.store.Stats()
	buckets := map[float64]uint64{}
	for size, commits := range s.GroupSize {
		buckets[float64(size)] = commits
	}
	out <- prometheus.MustNewConstHistogram(groupSizes, s.Groups, float64(s.Work), buckets)
}

// owed tells how much work is owed, by kind.
func (m *metrics) owed(store *sqlstore.Store) { m.registry.MustRegister(owedCollector{store}) }

type owedCollector struct{ store *sqlstore.Store }

var (
	owedCount   = prometheus.NewDesc("tillgate_owed", "Owed work, by kind of operation; expiry is payments that only wait for their end.", []string{"kind"}, nil)
	owedFlagged = prometheus.NewDesc("tillgate_owed_flagged", "Owed work that people should look at.", []string{"kind"}, nil)
	owedOldest  = prometheus.NewDesc("tillgate_owed_oldest_seconds", "Age of the oldest owed work.", []string{"kind"}, nil)
)

// owedLimit bounds how long a scrape may count.
const owedLimit = 2 * time.Second

// Describe is prometheus.Collector's.
func (c owedCollector) Describe(out chan<- *prometheus.Desc) {
	out <- owedCount
	out <- owedFlagged
	out <- owedOldest
}

// Collect is prometheus.Collector's.
func (c owedCollector) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), owedLimit)
	defer cancel()
	counts, err := c.store.CountOwed(ctx)
	if err != nil {
		out <- prometheus.NewInvalidMetric(owedCount, err)
		return
	}
	for _, n := range counts {
		kind := string(n.Kind)
		if kind == "" {
			kind = "expiry"
		}
		out <- prometheus.MustNewConstMetric(owedCount, prometheus.GaugeValue, float64(n.Count), kind)
		out <- prometheus.MustNewConstMetric(owedFlagged, prometheus.GaugeValue, float64(n.Flagged), kind)
		out <- prometheus.MustNewConstMetric(owedOldest, prometheus.GaugeValue, time.Since(n.Oldest).Seconds(), kind)
	}
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError}) // A busy store hides its own rows only.
}
