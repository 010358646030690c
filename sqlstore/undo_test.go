package sqlstore

import (
	"context"
	"database/sql/driver"
	"errors"
	"testing"

	"github.com/tillgate/tillgate/payment"
)

// deadStmt cannot be run.
type deadStmt struct{}

func (deadStmt) ExecContext(context.Context, []driver.NamedValue) (driver.Result, error) {
	return nil, errors.New("disk I/O error")
}

// A spoiled group whose rollback fails, on a database that cannot be opened again just then (no file descriptors left, a volume that is gone):
// the callers must hear an error; the process must live.
func TestSpoiledGroupOnAConnectionThatCannotBeReplaced(t *testing.T) {
	t.Parallel()
	s := setup(t)
	w := engineOf(s).writer
	err := s.InTx(t.Context(), func(tx payment.Tx) error {
		if err := insertKeyed("a")(tx); err != nil {
			return err
		}
		for _, text := range []string{rollback, begin} {
			w.conn.stmts[text] = &sqliteStmt{exec: deadStmt{}, close: func() error { return nil }}
		}
		w.connect = func() (*sqliteConn, error) { return nil, errors.New("too many open files") }
		return errors.New("refused after it wrote")
	})
	if err == nil {
		t.Error("no error")
	}
}
