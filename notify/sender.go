package notify

import (
	"context"
	"sync"
	"time"

	"github.com/tillgate/tillgate/internal/wait"
	"github.com/tillgate/tillgate/payment"
)

const (
	// workersMax bounds the tries under way: each holds a connection.
	workersMax = 64
	// laneMax bounds the tries under way to one host, so that a slow one does not take all workers, nor is run over.
	laneMax = 8
	// failingMax bounds the tries under way to all failing hosts together: the others keep half of the workers.
	failingMax = workersMax / 2
	// lanesMax bounds the hosts that are remembered without need.
	lanesMax = 1024
	// overdueMax is when a notice for a failing host is given up before its last try. Without it, more notices could come for a host that is
	// gone than are given up.
	overdueMax = 24 * time.Hour
	// lookEvery is how often due notices are looked for though nobody has said that there are any: those that another process left behind.
	lookEvery = 5 * time.Second
	// pauseMin is the least time between two looks: a look reads what is owed to each host, and what is stored meanwhile can be taken together.
	pauseMin = 10 * time.Millisecond
	// storePause is how long is waited after the store has failed.
	storePause = time.Second
	// drainMax is how long tries under way may take when the Sender is stopped. Those that are cut off come due again.
	drainMax = 5 * time.Second
	// claimMargin is added to a try's time-out before its notice comes due again: until then, whoever sent it records what came of it.
	claimMargin = 20 * time.Second
	// unknownPause is how long a notice waits whose protocol this program does not know.
	unknownPause = time.Minute
	// timeoutStandard bounds a try unless the protocol says otherwise.
	timeoutStandard = 10 * time.Second
)

// Sender sends notices. Kick may be called at any time, Run once.
type Sender struct {
	cfg    Config
	client client
	kick   chan struct{}

	mu      sync.Mutex
	lanes   map[string]*lane
	working int // Tries under way.
	failing int // Those of them to hosts that were failing.
	tries   sync.WaitGroup
}

// lane is a host to which notices are sent.
type lane struct {
	hands map[hand]bool // What is under way.
	state host
}

// host is what is known of a host from the last try.
type host int

// What is known of a host. A try at a time goes to one that is not answering, so that the dead do not take the place of the living.
const (
	fresh   host = iota // There was none yet.
	living              // It answered, whatever it said.
	failing             // It met no answer.
)

// hand names a notice that this process has in hand.
type hand struct {
	merchant payment.MerchantID
	id       payment.ID
}

// New makes a Sender; it does nothing before Run.
func New(cfg Config) *Sender {
	return &Sender{cfg: cfg, client: newClient(cfg), kick: make(chan struct{}, 1), lanes: map[string]*lane{}}
}

// Kick tells that notices may have come due. It never blocks.
func (s *Sender) Kick() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// Run sends what is due until ctx ends. Then it takes up no more, and returns when the tries under way have ended.
func (s *Sender) Run(ctx context.Context) error {
	base, stop := context.WithCancel(context.WithoutCancel(ctx)) // Of tries: outlives ctx by the drain.
	defer stop()
	for ctx.Err() == nil {
		next, err := s.look(ctx, base)
		wait := lookEvery
		switch {
		case err != nil && ctx.Err() == nil:
			s.cfg.Log.Error("look for notices", "err", err)
			wait = storePause
		case !next.IsZero():
			wait = max(pauseMin, min(wait, next.Sub(s.cfg.Now())))
		}
		s.rest(ctx, wait)
	}
	drained := make(chan struct{})
	go func() {
		s.tries.Wait()
		close(drained)
	}()
	limit := time.NewTimer(drainMax)
	defer limit.Stop()
	select {
	case <-drained:
	case <-limit.C:
		stop()
		<-drained
	}
	s.client.close()
	return nil
}

// rest waits until it is time to look again, or somebody says so.
func (s *Sender) rest(ctx context.Context, wait time.Duration) {
	pause := time.NewTimer(min(pauseMin, wait))
	defer pause.Stop()
	select {
	case <-pause.C:
	case <-ctx.Done():
		return
	}
	due := time.NewTimer(wait - pauseMin)
	defer due.Stop()
	select {
	case <-s.kick:
	case <-due.C:
	case <-ctx.Done():
	}
}

// look takes up what is due, as far as there are hands for it, and says when the next one comes due. What finds no hands is looked for again
// when a try ends.
func (s *Sender) look(ctx, base context.Context) (time.Time, error) {
	now := s.cfg.Now()
	hosts, err := s.cfg.Store.OwedHosts(ctx)
	if err != nil {
		return time.Time{}, err
	}
	s.forget(hosts)
	var next time.Time
	for to, due := range hosts { // In random order, so that none stands at the end for ever.
		if due.After(now) {
			if next.IsZero() || due.Before(next) {
				next = due
			}
			continue
		}
		free, held := s.room(to)
		if free == 0 {
			continue
		}
		notices, err := s.cfg.Store.DueNotices(ctx, to, now, free+held) // Those in hand may not be claimed yet.
		if err != nil {
			return time.Time{}, err
		}
		for _, n := range notices {
			s.take(base, to, n)
		}
	}
	return next, nil
}

// forget drops the lanes of hosts to which nothing is owed any more, when there are many.
func (s *Sender) forget(hosts map[string]time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.lanes) <= lanesMax {
		return
	}
	for to, l := range s.lanes {
		if _, owed := hosts[to]; !owed && len(l.hands) == 0 {
			delete(s.lanes, to)
		}
	}
}

// room is how many more tries to a host may begin now, and how many are under way.
func (s *Sender) room(to string) (free, held int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.roomOf(s.lane(to))
}

func (s *Sender) lane(to string) *lane {
	l := s.lanes[to]
	if l == nil {
		l = &lane{hands: map[hand]bool{}}
		s.lanes[to] = l
	}
	return l
}

func (s *Sender) roomOf(l *lane) (free, held int) {
	held = len(l.hands)
	free = workersMax - s.working
	switch l.state {
	case living:
		free = min(free, laneMax-held)
	case fresh:
		free = min(free, 1-held)
	case failing:
		free = min(free, 1-held, failingMax-s.failing)
	}
	return max(0, free), held
}

// take begins a try, unless there is no hand for it or it is in hand already.
func (s *Sender) take(base context.Context, to string, n payment.Notice) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, h := s.lane(to), hand{n.Merchant, n.ID}
	if free, _ := s.roomOf(l); free == 0 || l.hands[h] {
		return
	}
	was := l.state
	l.hands[h] = true
	s.working++
	if was == failing {
		s.failing++
	}
	s.tries.Go(func() {
		is := s.send(base, n, was)
		s.mu.Lock()
		delete(l.hands, h)
		s.working--
		if was == failing {
			s.failing--
		}
		if is != fresh {
			l.state = is
		}
		s.mu.Unlock()
		s.Kick()
	})
}

// send claims a notice, makes a try and records what came of it. It says what the try tells of the host; fresh for nothing.
func (s *Sender) send(base context.Context, n payment.Notice, state host) host {
	p, known := s.cfg.Protocols[n.Protocol]
	if p.Timeout == 0 {
		p.Timeout = timeoutStandard
	}
	start := s.cfg.Now()
	late := start.Sub(n.DueAt)
	n, mine, err := s.cfg.Store.ClaimNotice(base, n, start.Add(p.Timeout+claimMargin))
	if err != nil {
		if base.Err() == nil {
			s.cfg.Log.Error("claim notice", "merchant", n.Merchant, "notice", n.ID, "err", err)
			_ = wait.For(base, storePause) // It would be tried again at once.
		}
		return fresh
	}
	if !mine { // Another process was faster.
		return fresh
	}
	keep := context.WithoutCancel(base) // What has been done is recorded.
	switch {
	case !known:
		s.record(n, s.cfg.Store.PutOffNotice(keep, n, start.Add(unknownPause), "protocol is not served"))
		return fresh
	case state == failing && late > overdueMax:
		s.settle(keep, Protocol{}, n, attempt{outcome: "the host has not answered for a day"}, start)
		return fresh
	}
	a := s.client.try(base, p, n, start)
	if base.Err() != nil && !a.accepted { // It was cut off, which says nothing about the receiver.
		s.record(n, s.cfg.Store.PutOffNotice(keep, n, s.cfg.Now(), "cut off"))
		return fresh
	}
	s.settle(keep, p, n, a, start)
	return a.host
}

// settle records what came of a try.
func (s *Sender) settle(ctx context.Context, p Protocol, n payment.Notice, a attempt, start time.Time) {
	now := s.cfg.Now()
	result, level := Failed, s.cfg.Log.Info
	var err error
	if a.accepted && p.Done != nil {
		if err := p.Done(ctx, n); err != nil {
			s.record(n, err)
			a.accepted, a.outcome = false, a.outcome+", but that could not be noted"
		}
	}
	switch {
	case a.accepted:
		result = Accepted
		err = s.cfg.Store.SettleNotice(ctx, n, now, a.outcome)
	case n.Tries > len(p.Delays):
		result, level = GivenUp, s.cfg.Log.Warn
		err = s.cfg.Store.SettleNotice(ctx, n, now, "given up: "+a.outcome)
	default:
		again := start.Add(p.Delays[n.Tries-1])
		if again.Before(now) {
			again = now
		}
		err = s.cfg.Store.PutOffNotice(ctx, n, again, a.outcome)
	}
	if s.cfg.Observe != nil {
		s.cfg.Observe(n.Protocol, result, now.Sub(start))
	}
	level("notice", "protocol", n.Protocol, "event", n.Event, "merchant", n.Merchant, "payment", n.Payment, "notice", n.ID, "to", shown(n.URL),
		"try", n.Tries, "result", result, "outcome", a.outcome, "took", now.Sub(start).Round(time.Millisecond))
	s.record(n, err)
}

// record tells of a store that could not be written: the notice comes due again, and the receiver may hear of it twice.
func (s *Sender) record(n payment.Notice, err error) {
	if err != nil {
		s.cfg.Log.Error("record notice", "merchant", n.Merchant, "notice", n.ID, "err", err)
	}
}
