package sqlstore

import (
	"time"

	"github.com/pressly/goose/v3"
)

// dialect is all in which the engines differ beyond how they connect. Every other statement has one text for both.
type dialect struct {
	goose goose.Dialect
	// now is SQL for the database's time in Unix milliseconds, made with a parameter whose value is clock's.
	now   func(param string) string
	clock func() int64 // Nil where the database has a clock of its own, and statements take no parameter for it.
	// alone says that one server process has the store to itself: a new incarnation owns at once all that earlier ones had in hand.
	alone bool
}

// timed adds the clock's time to the arguments of a statement that was made with now.
func (d *dialect) timed(args ...any) []any {
	if d.clock == nil {
		return args
	}
	return append(args, d.clock())
}

// sqliteDialect takes the database's time from the process: there is only one.
func sqliteDialect(now func() time.Time) dialect {
	return dialect{
		goose: goose.DialectSQLite3,
		now:   func(param string) string { return param },
		clock: func() int64 { return now().UnixMilli() },
		alone: true,
	}
}

// postgresDialect takes the time from the server: the clocks of several hosts need not agree.
func postgresDialect() dialect {
	return dialect{
		goose: goose.DialectPostgres,
		now:   func(string) string { return `CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)` },
	}
}
