package sqlstore

import (
	"testing"

	"github.com/tillgate/tillgate/internal/pgtest"
	"github.com/tillgate/tillgate/sqlstore/storetest"
)

// openURL opens a store on PostgreSQL.
func openURL(t *testing.T, url string) *Store {
	t.Helper()
	s, err := Open(t.Context(), Config{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

func TestPostgresContract(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) func() storetest.Store {
		url := pgtest.URL(t)
		return func() storetest.Store {
			s, err := Open(t.Context(), Config{URL: url})
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
	})
}
