package sqlstore

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
)

//go:embed migrations/*.sql
var migrations embed.FS

// versionTable remembers which migrations have been applied.
const versionTable = "schema_versions"

// migrate applies what is missing, each migration in one transaction. The caller holds a lock against others who do the same. A database
// that is ahead of this program is left alone: migrations leave the tables usable for the program before them. Only 0007 and 0008 do
// not; a program from before them cannot store a payment that is sent any more, so it fails and loses nothing.
func migrate(ctx context.Context, db *sql.DB, d *dialect) error {
	sub, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	p, err := goose.NewProvider(d.goose, db, sub, goose.WithTableName(versionTable), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return err
	}
	_, err = p.Up(ctx)
	return err
}

// migrationLock is the number of the advisory lock under which processes that start at once migrate one after the other.
const migrationLock = 0x54494c4c // "TILL".

// migratePostgres migrates on connections of its own, which may wait: for another process, and for what a migration has to do.
func migratePostgres(ctx context.Context, address string, config *pgconn.Config, d *dialect) (err error) {
	c, err := pgx.ParseConfig(address)
	if err != nil {
		return err
	}
	c.Config = *config.Copy()
	for _, limit := range []string{"statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"} {
		c.RuntimeParams[limit] = "0"
	}
	db := stdlib.OpenDB(*c)
	defer func() { err = errors.Join(err, db.Close()) }()
	lock, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }() // The lock ends with its connection.
	if _, err := lock.ExecContext(ctx, `SELECT pg_advisory_lock($1)`, int64(migrationLock)); err != nil {
		return fmt.Errorf("wait for other processes that migrate: %w", err)
	}
	if err := migrate(ctx, db, d); err != nil {
		return err
	}
	return leaveRoom(ctx, lock)
}

// leaveRoom lets PostgreSQL fill the pages of tables only in part, in percent, whose rows are written again soon after they were inserted. A
// payment is written twice and hardly ever again: its page has room for the second version of each of its rows, so that none has to move to
// another page, which would cost new entries in all indexes. They fill the whole page in the end.
func leaveRoom(ctx context.Context, conn *sql.Conn) error {
	for table, percent := range map[string]int{"payments": 55, "later_operations": 75} {
		option := fmt.Sprintf("fillfactor=%d", percent)
		var done bool
		err := conn.QueryRowContext(ctx, `SELECT coalesce($2 = ANY (reloptions), false) FROM pg_class WHERE oid = $1::regclass`, table, option).Scan(&done)
		if err == nil && !done {
			_, err = conn.ExecContext(ctx, `ALTER TABLE `+table+` SET (`+option+`)`)
		}
		if err != nil {
			return fmt.Errorf("leave room in the pages of %s: %w", table, err)
		}
	}
	return nil
}
