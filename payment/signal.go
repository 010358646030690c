package payment

import "sync"

// LocalSignal is the Signal of one process. The zero value works.
type LocalSignal struct {
	// Others says that other processes change payments too, of which nothing is heard here.
	Others bool

	mu      sync.Mutex
	waiters map[signalKey]map[*func()]struct{}
}

type signalKey struct {
	merchant MerchantID
	payment  ID
}

var _ Signal = (*LocalSignal)(nil)

// Lossy is false while no signal has to leave a process.
func (s *LocalSignal) Lossy() bool { return s.Others }

// Publish wakes everybody who waits for the payment.
func (s *LocalSignal) Publish(m MerchantID, id ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for fn := range s.waiters[signalKey{m, id}] {
		(*fn)()
	}
}

// Watch calls fn when a payment changes.
func (s *LocalSignal) Watch(m MerchantID, id ID, fn func()) (end func()) {
	k, w := signalKey{m, id}, &fn
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiters == nil {
		s.waiters = map[signalKey]map[*func()]struct{}{}
	}
	if s.waiters[k] == nil {
		s.waiters[k] = map[*func()]struct{}{}
	}
	s.waiters[k][w] = struct{}{}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.waiters[k], w)
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
