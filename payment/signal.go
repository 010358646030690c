package payment

import "sync"

// LocalSignal is the Signal of one process. The zero value works.
type LocalSignal struct {
	mu      sync.Mutex
	waiters map[signalKey]map[chan struct{}]struct{}
}

type signalKey struct {
	merchant MerchantID
	payment  ID
}

var _ Signal = (*LocalSignal)(nil)

// Lossy is false: no signal leaves the process.
func (*LocalSignal) Lossy() bool { return false }

// Publish wakes everybody who waits for the payment.
func (s *LocalSignal) Publish(m MerchantID, id ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.waiters[signalKey{m, id}] {
		select {
		case c <- struct{}{}:
		default: // A wake-up waits there already.
		}
	}
}

// Subscribe begins to listen for a payment.
func (s *LocalSignal) Subscribe(m MerchantID, id ID) (<-chan struct{}, func()) {
	k, c := signalKey{m, id}, make(chan struct{}, 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiters == nil {
		s.waiters = map[signalKey]map[chan struct{}]struct{}{}
	}
	if s.waiters[k] == nil {
		s.waiters[k] = map[chan struct{}]struct{}{}
	}
	s.waiters[k][c] = struct{}{}
	return c, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.waiters[k], c)
		if len(s.waiters[k]) == 0 {
			delete(s.waiters, k)
		}
	}
}

// Waiting is how many wait for payments now, for metrics.
func (s *LocalSignal) Waiting() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, cs := range s.waiters {
		n += len(cs)
	}
	return n
}
