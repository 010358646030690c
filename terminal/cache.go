package terminal

import (
	"sync"
	"time"
)

const (
	// cacheLife bounds how long a disabled terminal goes on working (design 8).
	cacheLife = 2 * time.Second
	// cacheMax bounds what is remembered: more than the terminals that one process serves within cacheLife.
	cacheMax = 100_000
)

// cache remembers values for a while.
type cache[K comparable, V any] struct {
	mu      sync.Mutex
	rows    map[K]cached[V]
	changes int // Raised when something is forgotten, so that what was read before is not remembered after.
}

type cached[V any] struct {
	value V
	until time.Time
}

// get returns what is remembered. Whoever finds nothing, and reads, gives seen to put.
func (c *cache[K, V]) get(k K, now time.Time) (v V, seen int, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	row, ok := c.rows[k]
	return row.value, c.changes, ok && now.Before(row.until)
}

// put remembers a value, unless something has been forgotten since it was read.
func (c *cache[K, V]) put(k K, v V, until time.Time, seen int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.changes != seen {
		return
	}
	if c.rows == nil || len(c.rows) >= cacheMax {
		c.rows = map[K]cached[V]{}
	}
	c.rows[k] = cached[V]{v, until}
}

func (c *cache[K, V]) drop(k K) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.changes++
	delete(c.rows, k)
}

func (c *cache[K, V]) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.changes++
	c.rows = nil
}
