package sqlstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/tillgate/tillgate/payment"
)

// The types that parameters are declared as, and columns come in, by PostgreSQL's numbers.
const (
	oidInt8 = 20
	oidInt2 = 21
	oidInt4 = 23
	oidText = 25

	oidInt8s = 1016
	oidTexts = 1009
)

// formatBinary is the format of all parameters and columns: the same as text for texts, and cheaper for numbers.
const formatBinary = 1

// step is a statement to be run together with others.
type step struct {
	text string
	args []any
	// rows holds the arguments of many rows, which the statement writes at once, in place of args. Such a step is a must.
	rows [][]any
	// must says that the statement has to change a row. It is then worded so that it fails where there is none, and takes the transaction
	// with it: this way nobody has to look at its result before COMMIT is sent. missed is the error of that.
	must   bool
	missed func() error
	// each gets the rows, if anybody wants them. It runs no statement.
	each func(*row)
}

// postgresConn is one connection with its prepared statements. pgx connects and speaks the protocol; statements are sent from here, since
// what makes a transaction fast is to send many at once and to wait for them together. One goroutine uses it at a time.
type postgresConn struct {
	raw      *pgconn.PgConn
	front    *pgproto3.Frontend
	patience time.Duration // How long an exchange may take.
	stmts    map[wording]*postgresStmt
	named    int // How many statements were given a name.
	// broken is set by what ends a connection.
	broken error
	// certain says that the server has undone what was under way when it broke. Else nobody knows what became of it.
	certain bool
	begun   bool // A transaction is open.

	bind  pgproto3.Bind // Used again and again.
	arena []byte
	row   row
	sent  []*postgresStmt
}

// wording is how a text is worded for the server.
type wording struct {
	text       string
	must, many bool
}

type postgresStmt struct {
	name     string
	text     string
	types    []uint32
	asked    bool // Its preparation is on its way, or done.
	prepared bool
	shared   columns // Of many rows: what comes once for all of them.
	numbers  []bool  // By column: it is a number.
}

// ended is the failure of one of several steps.
type ended struct {
	at  int // The step, or as many as there are when it was the commit at the end.
	err error
}

func newPostgresConn(raw *pgconn.PgConn, patience time.Duration) *postgresConn {
	return &postgresConn{raw: raw, patience: patience, front: raw.Frontend(), stmts: map[wording]*postgresStmt{}}
}

// mustChange makes a statement that changes or locks no row fail with division_by_zero. Nothing else in our statements divides.
func mustChange(text string) string {
	if text == lockTerm {
		return "WITH locked AS (" + text + ") SELECT 1/count(*) FROM locked"
	}
	return "WITH changed AS (" + text + " RETURNING 1) SELECT 1/count(*) FROM changed"
}

func (c *postgresConn) stmt(s *step) *postgresStmt {
	key := wording{s.text, s.must, s.rows != nil}
	st, known := c.stmts[key]
	if s.rows != nil {
		return c.stmtOfMany(key, st, s)
	}
	if known {
		return st
	}
	st = c.newStmt(key, s.text)
	if s.must {
		st.text = mustChange(s.text)
	}
	for _, a := range s.args {
		st.types = append(st.types, typeOf(a))
	}
	return st
}

// stmtOfMany is the statement for many rows. What was alike in all rows of every group so far comes once: most columns hold what nearly all
// payments have, and an array for each would cost the server more than the rows themselves. A group that differs in a column ends that, for
// as long as the connection lives, so that statements are prepared anew only a few times.
func (c *postgresConn) stmtOfMany(key wording, st *postgresStmt, s *step) *postgresStmt {
	shared := notKeys
	if st != nil {
		shared = st.shared
	}
	shared = shared.alike(s.rows)
	if st != nil {
		if shared == st.shared {
			return st
		}
		if st.asked {
			c.front.SendClose(&pgproto3.Close{ObjectType: 'S', Name: st.name})
		}
	}
	st = c.newStmt(key, manyRows(s.text, s.rows[0], shared))
	st.shared = shared
	for i, a := range s.rows[0] {
		of := typeOf(a)
		if !shared.has(i) {
			of = arrayOf[of]
		}
		st.types = append(st.types, of)
	}
	st.types = append(st.types, oidInt8) // How many rows.
	return st
}

func (c *postgresConn) newStmt(key wording, text string) *postgresStmt {
	c.named++
	st := &postgresStmt{name: fmt.Sprintf("s%d", c.named), text: text}
	c.stmts[key] = st
	return st
}

var arrayOf = map[uint32]uint32{oidInt8: oidInt8s, oidText: oidTexts}

// typeOf is an argument's type by PostgreSQL's number.
func typeOf(argument any) uint32 {
	if _, ok := argument.(int64); ok {
		return oidInt8
	}
	return oidText
}

// put adds a step to what is sent next.
func (c *postgresConn) put(s *step) {
	st := c.stmt(s)
	if !st.asked {
		st.asked = true
		c.front.SendParse(&pgproto3.Parse{Name: st.name, Query: st.text, ParameterOIDs: st.types})
		c.front.SendDescribe(&pgproto3.Describe{ObjectType: 'S', Name: st.name})
	}
	b := &c.bind
	b.PreparedStatement = st.name
	b.Parameters = b.Parameters[:0]
	b.ResultFormatCodes = append(b.ResultFormatCodes[:0], formatBinary)
	c.arena = c.arena[:0]
	b.ParameterFormatCodes = append(b.ParameterFormatCodes[:0], formatBinary)
	// A parameter may be moved when the arena grows; the bytes of those before stay where they were.
	parameter := func(start int) { b.Parameters = append(b.Parameters, c.arena[start:len(c.arena):len(c.arena)]) }
	for _, a := range s.args {
		start := len(c.arena)
		c.arena = appendValue(c.arena, a)
		parameter(start)
	}
	if s.rows != nil {
		for i, first := range s.rows[0] {
			start := len(c.arena)
			if st.shared.has(i) {
				c.arena = appendValue(c.arena, first)
			} else {
				c.arena = appendArray(c.arena, s.rows, i)
			}
			parameter(start)
		}
		start := len(c.arena)
		c.arena = appendValue(c.arena, int64(len(s.rows)))
		parameter(start)
	}
	c.front.SendBind(b)
	c.front.SendExecute(&pgproto3.Execute{})
	c.sent = append(c.sent, st)
}

func appendValue(to []byte, v any) []byte {
	switch v := v.(type) {
	case int64:
		return binary.BigEndian.AppendUint64(to, uint64(v))
	case string:
		return append(to, v...)
	}
	panic(fmt.Sprintf("sqlstore: argument of type %T", v))
}

// appendArray is one column of many rows as PostgreSQL takes an array: dimensions, whether there are NULLs, type, length, first index,
// and then each value after its length.
func appendArray(to []byte, rows [][]any, column int) []byte {
	be := binary.BigEndian
	to = be.AppendUint32(be.AppendUint32(be.AppendUint32(to, 1), 0), typeOf(rows[0][column]))
	to = be.AppendUint32(be.AppendUint32(to, uint32(len(rows))), 1)
	for _, r := range rows {
		at := len(to)
		to = appendValue(append(to, 0, 0, 0, 0), r[column])
		be.PutUint32(to[at:], uint32(len(to)-at-4))
	}
	return to
}

// exchange sends steps in one go and waits for all of them. Outside of a transaction that was begun they make one by themselves, which is
// durable when exchange returns without error. changed is how many rows the last one changed. After a failure none of the steps has had an
// effect, unless the connection is broken: then nobody knows.
func (c *postgresConn) exchange(steps ...step) (changed int64, failed *ended) {
	if c.broken != nil {
		return 0, &ended{err: c.broken}
	}
	finished := false
	defer func() { // Also after a panic of each.
		if !finished && c.broken == nil {
			c.broken = errors.New("connection given up in the middle of an exchange")
		}
	}()
	if err := c.raw.Conn().SetDeadline(time.Now().Add(c.patience)); err != nil {
		return 0, c.lose(0, err)
	}
	c.sent = c.sent[:0]
	for i := range steps {
		c.put(&steps[i])
	}
	c.front.SendSync(&pgproto3.Sync{})
	if err := c.front.Flush(); err != nil {
		return 0, c.lose(0, err)
	}
	for at := 0; ; {
		msg, err := c.front.Receive()
		if err != nil {
			return 0, c.lose(at, err)
		}
		switch msg := msg.(type) {
		case *pgproto3.ParseComplete:
			c.sent[at].prepared = true
		case *pgproto3.RowDescription:
			c.sent[at].describe(msg)
		case *pgproto3.DataRow:
			if each := steps[at].each; each != nil {
				c.row.fill(msg, c.sent[at].numbers)
				each(&c.row)
			}
		case *pgproto3.CommandComplete:
			if at == len(steps)-1 {
				changed = rowsOf(msg.CommandTag)
			}
			at++
		case *pgproto3.ErrorResponse:
			e := pgconn.ErrorResponseToPgError(msg)
			if e.SeverityUnlocalized != "ERROR" { // FATAL or PANIC: the connection ends.
				return 0, c.lose(at, e)
			}
			failed = &ended{at: at, err: c.translate(steps, at, e)}
		case *pgproto3.ReadyForQuery:
			finished = true
			for _, st := range c.sent {
				st.asked = st.prepared // What came after a failure has been skipped.
			}
			c.begun = msg.TxStatus != 'I'
			return changed, failed
		}
	}
}

// lost reports whether nobody knows what became of the last exchange.
func (c *postgresConn) lost() bool { return c.broken != nil && !c.certain }

// lose gives the connection up.
func (c *postgresConn) lose(at int, err error) *ended {
	c.broken = fmt.Errorf("%w: database: %v", payment.ErrUnavailable, err)
	return &ended{at: at, err: c.broken}
}

// translate makes the core's sentinel of what the server says.
func (c *postgresConn) translate(steps []step, at int, e *pgconn.PgError) error {
	if e.Code == codeDivisionByZero && at < len(steps) && steps[at].must {
		return steps[at].missed()
	}
	if e.Code == codeFeature || e.Code == codeNoStatement {
		// A migration has changed what a prepared statement returns, or a pooler has forgotten it. Another connection knows nothing of it.
		c.broken, c.certain = fmt.Errorf("%w: database: %v", payment.ErrStoreConflict, e), true
		return c.broken
	}
	return postgresError(e)
}

func (s *postgresStmt) describe(msg *pgproto3.RowDescription) {
	s.numbers = make([]bool, len(msg.Fields))
	for i, f := range msg.Fields {
		switch f.DataTypeOID {
		case oidInt2, oidInt4, oidInt8:
			s.numbers[i] = true
		}
	}
}

// fill takes the columns of a row.
func (r *row) fill(msg *pgproto3.DataRow, numbers []bool) {
	r.next = 0
	r.values = r.values[:0]
	for i, b := range msg.Values {
		switch {
		case b == nil:
			r.values = append(r.values, nil)
		case !numbers[i]:
			r.values = append(r.values, string(b))
		case len(b) == 8:
			r.values = append(r.values, int64(binary.BigEndian.Uint64(b)))
		case len(b) == 4:
			r.values = append(r.values, int64(int32(binary.BigEndian.Uint32(b))))
		default:
			r.values = append(r.values, int64(int16(binary.BigEndian.Uint16(b))))
		}
	}
}

// rowsOf reads the number at the end of a command tag, such as "UPDATE 1".
func rowsOf(tag []byte) int64 {
	var n, unit int64 = 0, 1
	for i := len(tag) - 1; i >= 0 && tag[i] >= '0' && tag[i] <= '9'; i-- {
		n, unit = n+int64(tag[i]-'0')*unit, unit*10
	}
	return n
}

// stale reports whether the server has said something, or hung up, while nobody used the connection. It costs one system call, and keeps
// work from being sent to a server that is gone, after which its outcome would not be known.
func (c *postgresConn) stale() bool {
	if c.broken != nil {
		return true
	}
	conn := c.raw.Conn()
	if err := conn.SetDeadline(time.Time{}); err != nil { // That of the last exchange.
		return true
	}
	if wrapped, ok := conn.(interface{ NetConn() net.Conn }); ok { // TLS.
		conn = wrapped.NetConn()
	}
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return true
	}
	quiet := false
	err = raw.Read(func(fd uintptr) bool {
		var b [1]byte
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		quiet = errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EINTR)
		return true
	})
	return err != nil || !quiet
}

// onlyReads reports whether a statement changes nothing and locks nothing, so that it needs no transaction of its own.
func onlyReads(text string) bool {
	for strings.HasPrefix(text, "--") {
		_, text, _ = strings.Cut(text, "\n")
	}
	return strings.HasPrefix(text, "SELECT") && !strings.Contains(text, " FOR ")
}
