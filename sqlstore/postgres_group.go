package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tillgate/tillgate/internal/fault"
	"github.com/tillgate/tillgate/payment"
)

// burst is all that a piece of work writes, when nothing of it has to be asked for before COMMIT.
type burst struct {
	steps []step
	done  chan struct{} // Closed when the fields below are final.
	err   error
	// alone says that nothing of it is durable, and that it is to be run again without others.
	alone bool
}

func (b *burst) answer(err error, alone bool) {
	b.err, b.alone = err, alone
	close(b.done)
}

// committer owns a connection and commits bursts in groups: all that have gathered while it was busy become one transaction.
type committer struct {
	engine *postgresEngine
	conn   *postgresConn
	group  []*burst
}

// run works until the queue is closed.
func (c *committer) run() {
	for b := range c.engine.bursts {
		c.take(b)
	}
	c.close()
}

// help works while bursts wait for longer than they should, until the queue is closed.
func (c *committer) help() {
	look := time.NewTicker(helpAfter)
	defer look.Stop()
	for {
		select {
		case <-c.engine.quit:
			c.run() // What is left.
			return
		case <-look.C:
		}
		if time.Since(time.Unix(0, c.engine.taken.Load())) <= helpAfter {
			continue
		}
		select {
		case b, ok := <-c.engine.bursts:
			if ok {
				c.take(b)
			}
		default:
		}
	}
}

// take serves a burst and all that wait beside it.
func (c *committer) take(first *burst) {
	c.engine.taken.Store(time.Now().UnixNano())
	c.group = gather(c.group[:0], first, c.engine.bursts)
	c.serve()
	clear(c.group)
}

func (c *committer) close() {
	if c.conn != nil {
		c.conn.close()
	}
}

// serve runs a group.
func (c *committer) serve() {
	if c.conn != nil && c.conn.stale() {
		c.conn.close()
		c.conn = nil
	}
	if c.conn == nil {
		conn, err := c.engine.dial(context.Background())
		if err == nil {
			if _, failed := conn.exchange(step{text: setLockMax}); failed != nil {
				conn.close()
				err = failed.err
			}
		}
		if err != nil {
			for _, b := range c.group {
				b.answer(err, false)
			}
			return
		}
		c.conn = conn
	}
	c.commit(c.group)
}

// commit runs a group as one transaction. When a row of it is not as it should be, its halves are tried, so that one repeated request
// among many new ones costs a few commits more, and not one for each. What else has failed may fail again, after a wait, and is given back.
func (c *committer) commit(group []*burst) {
	steps := group[0].steps
	if len(group) > 1 {
		steps = merge(group)
	}
	answer := func(err error, alone bool) {
		for _, b := range group {
			b.answer(err, alone)
		}
	}
	_, failed := c.conn.exchange(steps...)
	switch {
	case failed == nil:
		fault.After("commit")
		c.engine.committed(uint64(len(group)))
		answer(nil, false)
	case c.conn.lost():
		answer(unknown(failed.err), false)
	case len(group) == 1, c.conn.broken != nil, errors.Is(failed.err, payment.ErrUnavailable):
		answer(nil, true)
	default:
		c.engine.count(func(s *Stats) { s.Broken++ })
		half := len(group) / 2
		c.commit(group[:half])
		if c.conn.broken == nil {
			c.commit(group[half:])
			return
		}
		group = group[half:]
		answer(nil, true)
	}
}

// unknown is the error of a commit whose answer was lost.
func unknown(err error) error { return fmt.Errorf("the transaction may be durable or not: %w", err) }

var setLockMax = `SET lock_timeout = ` + inMillis(groupLockMax)

// question is a statement that only reads, outside of any transaction.
type question struct {
	step step
	done chan struct{} // Closed when the fields below are final.
	err  error
	// alone says that it is to be asked again without others.
	alone bool
}

func (q *question) answer(err error, alone bool) {
	q.err, q.alone = err, alone
	close(q.done)
}

// asker owns a connection and asks in groups: all questions that have gathered while it was busy are sent together.
type asker struct {
	engine *postgresEngine
	conn   *postgresConn
	group  []*question
	steps  []step
}

// run works until the queue is closed.
func (a *asker) run() {
	for q := range a.engine.questions {
		a.group = gather(a.group[:0], q, a.engine.questions)
		a.serve()
		clear(a.group)
	}
	if a.conn != nil {
		a.conn.close()
	}
}

func (a *asker) serve() {
	if a.conn != nil && a.conn.stale() {
		a.conn.close()
		a.conn = nil
	}
	if a.conn == nil {
		conn, err := a.engine.dial(context.Background())
		if err != nil {
			for _, q := range a.group {
				q.answer(err, false)
			}
			return
		}
		a.conn = conn
	}
	a.steps = a.steps[:0]
	for _, q := range a.group {
		a.steps = append(a.steps, q.step)
	}
	_, failed := a.conn.exchange(a.steps...)
	for i, q := range a.group {
		switch {
		case failed == nil || i < failed.at:
			q.answer(nil, false)
		case i == failed.at && a.conn.broken == nil:
			q.answer(failed.err, false)
		default:
			q.answer(nil, true)
		}
	}
}

// gather takes all that waits, up to groupMax.
func gather[T any](group []T, first T, queue <-chan T) []T {
	group = append(group, first)
	for len(group) < groupMax {
		select {
		case next, ok := <-queue:
			if !ok {
				return group
			}
			group = append(group, next)
		default:
			return group
		}
	}
	return group
}

// merge makes one list of steps of the bursts of a group: rows that are written by the same text are written by one statement.
//
// Statements change their order by that. Each of them writes one row by its key, and the merged ones fail unless they have written every
// row that they name; so if all of them succeed, no burst has met a row of another one, nor two of its own statements the same row, and
// the order did not matter. If one fails, the group is undone and its bursts are run alone, in their own order.
func merge(group []*burst) []step {
	var steps []step
	at := map[string]int{}
	for _, b := range group {
		for _, s := range b.steps {
			if s.text == lockTerm { // Once for the whole group.
				if !slices.ContainsFunc(steps, func(l step) bool { return l.text == lockTerm && l.args[0] == s.args[0] }) {
					steps = append(steps, s)
				}
				continue
			}
			i, ok := at[s.text]
			if !ok {
				i = len(steps)
				at[s.text] = i
				steps = append(steps, step{text: s.text, must: true, missed: func() error { return errMerged }})
			}
			steps[i].rows = append(steps[i].rows, s.args)
		}
	}
	for i := range steps {
		if len(steps[i].rows) == 1 {
			steps[i].args, steps[i].rows = steps[i].rows[0], nil
			continue
		}
		// Rows are locked in one order by all groups, so that two groups do not wait for each other.
		slices.SortFunc(steps[i].rows, compareKeys)
	}
	return steps
}

// errMerged is what a group says when a row of it was not there; its bursts say it better.
var errMerged = fmt.Errorf("a row of the group: %w", payment.ErrStoreConflict)

// keyColumns is how many arguments a key has at most: they come first in every statement.
const keyColumns = 3

func compareKeys(a, b []any) int {
	for i := range min(keyColumns, len(a)) {
		var order int
		switch v := a[i].(type) {
		case int64:
			order = int(max(-1, min(1, v-b[i].(int64))))
		case string:
			order = strings.Compare(v, b[i].(string))
		}
		if order != 0 {
			return order
		}
	}
	return 0
}

// columns is a set of a statement's arguments, by their places. Those beyond the 64th are never in it.
type columns uint64

// notKeys is all columns but those that may be of a key, in which rows differ.
const notKeys = ^columns(0) &^ (1<<keyColumns - 1)

func (c columns) has(i int) bool { return c>>i&1 != 0 }

// alike is those of a set in which all rows are alike.
func (c columns) alike(rows [][]any) columns {
	for i := range rows[0] {
		if !c.has(i) {
			continue
		}
		for _, r := range rows[1:] {
			if r[i] != rows[0][i] {
				c &^= 1 << i
				break
			}
		}
	}
	return c
}

var (
	insertShape = regexp.MustCompile(`(?s)^(INSERT INTO \w+ \([^)]*\))\s+VALUES \([$\d, ]*\) ON CONFLICT DO NOTHING$`)
	updateShape = regexp.MustCompile(`(?s)^(UPDATE \w+ SET .*?)(\sWHERE .*)$`)
	parameter   = regexp.MustCompile(`\$(\d+)`)
)

// manyRows words a statement that writes one row so that it writes many, whose columns come as arrays, but those that all rows share come
// once. It fails unless it changes as many as the last parameter says. It panics on a statement of another shape, which is a mistake of the
// program.
func manyRows(text string, row []any, shared columns) string {
	var arrays, names []string
	values := make([]string, len(row)) // By place, what stands for a parameter.
	for i, v := range row {
		kind := "text"
		if _, ok := v.(int64); ok {
			kind = "bigint"
		}
		if shared.has(i) {
			values[i] = fmt.Sprintf("CAST($%d AS %s)", i+1, kind)
			continue
		}
		name := "p" + strconv.Itoa(i+1)
		values[i], names = "given."+name, append(names, name)
		arrays = append(arrays, fmt.Sprintf("CAST($%d AS %s[])", i+1, kind))
	}
	from := " FROM unnest(" + strings.Join(arrays, ", ") + ") AS given (" + strings.Join(names, ", ") + ") "
	placed := func(text string) string {
		return parameter.ReplaceAllStringFunc(text, func(name string) string {
			n, _ := strconv.Atoi(name[1:]) // Digits, by the expression.
			return values[n-1]
		})
	}
	var many string
	if m := insertShape.FindStringSubmatch(text); m != nil {
		// A row that is there already fails the group by whatever error, so the server need not look for it beforehand.
		many = m[1] + " SELECT " + strings.Join(values, ", ") + from
	} else if m := updateShape.FindStringSubmatch(text); m != nil {
		many = placed(m[1]) + from + placed(m[2])
	} else {
		panic("sqlstore: statement that cannot write many rows: " + text)
	}
	return fmt.Sprintf("WITH changed AS (%s RETURNING 1) SELECT 1/CAST(count(*) = $%d AS INT) FROM changed", many, len(row)+1)
}
