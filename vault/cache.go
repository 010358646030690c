package vault

import "sync"

// cacheMax is how many opened keys are kept: the terminals of a large server, with two keys each. Opening one costs microseconds in
// software but a round trip and an object's place in a token.
const cacheMax = 8192

// cache keeps opened keys. When it is full, any one of them leaves; map order is good enough where almost all fit.
type cache struct {
	mu   sync.Mutex
	keys map[string]*openedKey
}

type openedKey struct {
	Key
	users int
	gone  bool // Left the cache; the last user closes it.
}

func newCache() *cache { return &cache{keys: map[string]*openedKey{}} }

// use calls fn with the key of that name, which open opens if it is not there.
func (c *cache) use(name string, open func() (Key, error), fn func(Key) error) error {
	k := c.take(name)
	if k == nil {
		key, err := open() // Without the mutex: it may be a network away. Two may open one key; both are good.
		if err != nil {
			return err
		}
		k = c.put(name, key)
	}
	defer c.release(k)
	return fn(k.Key)
}

func (c *cache) take(name string) *openedKey {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.keys[name]
	if k != nil {
		k.users++
	}
	return k
}

func (c *cache) put(name string, key Key) *openedKey {
	k := &openedKey{Key: key, users: 1}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, taken := c.keys[name]; taken {
		k.gone = true
		return k
	}
	if len(c.keys) >= cacheMax {
		for other, old := range c.keys {
			delete(c.keys, other)
			if old.gone = true; old.users == 0 {
				old.Close() // It can only leak an object of a token that refuses; nobody could do anything about it.
			}
			break
		}
	}
	c.keys[name] = k
	return k
}

func (c *cache) release(k *openedKey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if k.users--; k.users == 0 && k.gone {
		k.Close()
	}
}
