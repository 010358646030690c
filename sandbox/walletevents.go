package sandbox

import (
	"encoding/hex"
	"fmt"
	"io"
)

// Limits of the feed.
const (
	eventsKept    = 65_536 // Members that lag further behind are told to begin anew.
	eventBatchMax = 64     // Events in one answer: with the longest texts they stay below 64 KiB, which is all that a member need read.
	epochBytes    = 8      // Random bytes that name one run of the network.
	tokenBytes    = 18     // 144 bits: a phone page's link cannot be guessed.
)

// event is a change of state that no member's call was answered with.
type event struct {
	Seq       uint64 `json:"seq"`
	Kind      string `json:"kind"`
	Reference string `json:"reference"`
	Attach    string `json:"attach"`
	State     string `json:"state"`
}

// eventsAnswer is the body of GET /v1/events.
type eventsAnswer struct {
	Epoch  string  `json:"epoch"`
	Next   uint64  `json:"next"` // What to ask for as after, next time.
	Reset  bool    `json:"reset,omitempty"`
	Events []event `json:"events"`
}

// feed is the ring of recent events. It is not durable: a restart begins a new epoch, and members query what they wait for. It has no
// lock of its own.
type feed struct {
	epoch string
	ring  []event
	last  uint64        // Number of the newest event; the first is 1.
	more  chan struct{} // Closed at the next event.
}

func newFeed(random io.Reader) (*feed, error) {
	id := make([]byte, epochBytes)
	if _, err := io.ReadFull(random, id); err != nil {
		return nil, fmt.Errorf("epoch: %w", err)
	}
	return &feed{epoch: hex.EncodeToString(id), more: make(chan struct{})}, nil
}

// publish adds an event and wakes everybody who waits.
func (f *feed) publish(kind, reference, attach, state string) {
	f.last++
	e := event{f.last, kind, reference, attach, state}
	if len(f.ring) < eventsKept {
		f.ring = append(f.ring, e)
	} else {
		f.ring[(f.last-1)%eventsKept] = e
	}
	close(f.more)
	f.more = make(chan struct{})
}

// read tells the events after the given one. Nothing new is no events and a channel that is closed when there are some.
func (f *feed) read(epoch string, after uint64) (eventsAnswer, <-chan struct{}) {
	oldest := f.last - uint64(len(f.ring)) // The number before the oldest event kept.
	if epoch != f.epoch || after > f.last || after < oldest {
		return eventsAnswer{Epoch: f.epoch, Next: f.last, Reset: true, Events: []event{}}, nil
	}
	list := make([]event, 0, min(f.last-after, eventBatchMax))
	for seq := after + 1; seq <= f.last && len(list) < eventBatchMax; seq++ {
		list = append(list, f.ring[(seq-1)%eventsKept])
	}
	return eventsAnswer{Epoch: f.epoch, Next: after + uint64(len(list)), Events: list}, f.more
}
