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
// that is ahead of this program is left alone: migrations leave the tables usable for the program before them. Only 0007 does not; a program
// from before it cannot write a payment any more, so it fails and loses nothing.
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

// roomForUpdates are the tables whose rows are written again soon after they were inserted.
var roomForUpdates = []string{"payments", "later_operations"}

// leaveRoom lets PostgreSQL fill the pages of such tables to three quarters. A row's new version then finds room beside the old one, and
// needs no new entries in the indexes unless an indexed column has changed.
func leaveRoom(ctx context.Context, conn *sql.Conn) error {
	for _, table := range roomForUpdates {
		var done bool
		err := conn.QueryRowContext(ctx, `SELECT coalesce('fillfactor=75' = ANY (reloptions), false) FROM pg_class WHERE oid = $1::regclass`, table).Scan(&done)
		if err == nil && !done {
			_, err = conn.ExecContext(ctx, `ALTER TABLE `+table+` SET (fillfactor = 75)`)
		}
		if err != nil {
			return fmt.Errorf("leave room in the pages of %s: %w", table, err)
		}
	}
	return nil
}
