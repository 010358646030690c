package device

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func openTestJournal(t *testing.T, dir string) *journal {
	t.Helper()
	j, err := openJournal(dir, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.close() })
	return j
}

func TestTheJournalOutlivesTheProcess(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j := openTestJournal(t, dir)
	a, err := j.begin(record{ID: "a", Order: true})
	if err != nil {
		t.Fatal(err)
	}
	b, err := j.begin(record{ID: "b", Order: true})
	if err != nil || a.Invoice != 1 || b.Invoice != 2 {
		t.Errorf("invoices %d, %d, %v", a.Invoice, b.Invoice, err)
	}
	b.Phase, b.Payment = sent, 7
	a.Phase = over
	if err := errors.Join(j.note(b), j.note(a)); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, journalName)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"id":"c","phase":"beg`); err != nil { // The power went.
		t.Fatal(err)
	}
	_ = f.Close()
	j = openTestJournal(t, dir)
	if left := j.left(); len(left) != 1 || left[0].ID != "b" || left[0].Phase != sent || left[0].Payment != 7 {
		t.Errorf("left: %+v", left)
	}
	for _, id := range []string{"a", "b"} {
		if _, err := j.begin(record{ID: id}); !errors.Is(err, errKnown) {
			t.Errorf("%s again: %v", id, err)
		}
	}
	if c, err := j.begin(record{ID: "c"}); err != nil || c.Invoice != 3 {
		t.Errorf("c: %d, %v", c.Invoice, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestTheJournalForgetsOnlyWhatIsOver(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j := openTestJournal(t, dir)
	j.order, j.jobs = nil, map[string]*record{}
	for n := range 3 * remembered {
		r := record{ID: fmt.Sprint(n), Phase: over, Invoice: int64(n)}
		if n == 5 {
			r.Phase = sent
		}
		j.apply(r)
	}
	if err := j.rewrite(); err != nil {
		t.Fatal(err)
	}
	j = openTestJournal(t, dir)
	if !j.knows("5") || j.knows("6") || j.knows("0") || !j.knows(fmt.Sprint(3*remembered-1)) || len(j.order) != remembered+1 {
		t.Errorf("%d jobs are known", len(j.order))
	}
	if r, err := j.begin(record{ID: "new"}); err != nil || r.Invoice != 3*remembered {
		t.Errorf("invoice %d, %v", r.Invoice, err)
	}
}

func TestADamagedJournalIsNotBelieved(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, journalName), []byte("{\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openJournal(dir, time.Now); err == nil {
		t.Error("opened")
	}
}
