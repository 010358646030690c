package device

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/tillgate/tillgate/payment"
)

// phase is how far the terminal is with a job.
type phase string

const (
	begun phase = "begun" // Nothing has left the terminal.
	sent  phase = "sent"  // A card, or another request about money, is on its way or was.
	over  phase = "over"  // Done, and nothing is owed.
)

const (
	journalName = "journal.jsonl"
	// remembered is how many jobs the journal knows when it is rewritten: far more than can be repeated by a server that resumes a cut line.
	remembered = 1000
	// rewriteAt is how many lines the journal may have.
	rewriteAt = 10 * remembered
)

// job is a line of the journal: what the terminal has begun, without any card data.
type record struct {
	ID      string     `json:"id"`
	Phase   phase      `json:"phase"`
	Link    string     `json:"link,omitempty"`  // The number under which the terminal is known to the server that it is about.
	As      string     `json:"as,omitempty"`    // Of a job of the terminal's own: the protocol.
	Order   bool       `json:"order,omitempty"` // The server wants to hear of its end.
	Payment payment.ID `json:"payment,omitempty"`
	Invoice int64      `json:"invoice,omitempty"`
	At      int64      `json:"at"` // Unix seconds.
}

// journal is what a terminal remembers across restarts: which orders it has had, and what it was doing. A line is on the disk before what it
// tells of happens.
type journal struct {
	mu      sync.Mutex
	path    string
	file    *os.File
	lines   int
	jobs    map[string]*record
	order   []string // IDs, the oldest first.
	invoice int64    // The last.
	now     func() time.Time
}

// openJournal reads a folder's journal, or begins one. A torn last line was never acted upon, and is dropped.
func openJournal(dir string, now func() time.Time) (*journal, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	j := &journal{path: filepath.Join(dir, journalName), jobs: map[string]*record{}, now: now}
	f, err := os.Open(j.path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("journal: %w", err)
	}
	if err == nil {
		err = j.read(f)
		_ = f.Close() // It was only read.
		if err != nil {
			return nil, fmt.Errorf("journal: %w", err)
		}
	}
	return j, j.rewrite()
}

func (j *journal) read(r io.Reader) error {
	lines := bufio.NewReader(r)
	for {
		text, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		var rec record
		if json.Unmarshal(text, &rec) != nil {
			return errors.New("a line cannot be read; the file is damaged")
		}
		j.apply(rec)
	}
}

func (j *journal) apply(r record) {
	if _, known := j.jobs[r.ID]; !known {
		j.order = append(j.order, r.ID)
	}
	j.jobs[r.ID] = &r
	j.invoice = max(j.invoice, r.Invoice)
}

// rewrite begins the file anew with what is still worth knowing.
func (j *journal) rewrite() error {
	var keep []string
	for n, id := range j.order {
		if j.jobs[id].Phase != over || n >= len(j.order)-remembered {
			keep = append(keep, id)
		} else {
			delete(j.jobs, id)
		}
	}
	j.order = keep
	var text []byte
	for n, id := range keep {
		r := *j.jobs[id]
		if n == len(keep)-1 {
			r.Invoice = max(r.Invoice, j.invoice) // The count must not begin again.
		}
		text = append(append(text, line(r)...), '\n')
	}
	if err := writeFile(j.path, text); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	if j.file != nil {
		_ = j.file.Close() // Its name is another file's by now.
	}
	f, err := os.OpenFile(j.path, os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	j.file, j.lines = f, len(keep)
	return nil
}

func line(r record) []byte {
	b, err := json.Marshal(r)
	if err != nil {
		panic("device: " + err.Error()) // A record has no way to fail.
	}
	return b
}

// errKnown says that an ID has been in the journal before.
var errKnown = errors.New("carried out before")

// begin remembers a new job and gives it an invoice number. It fails with errKnown for one that was there before.
func (j *journal) begin(r record) (record, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if _, known := j.jobs[r.ID]; known {
		return record{}, errKnown
	}
	const invoices = 1_000_000 // Six digits.
	r.Phase, r.Invoice = begun, j.invoice+1
	if j.invoice+1 >= invoices {
		r.Invoice, j.invoice = 1, 0
	}
	return r, j.write(r)
}

// note writes what has become of a job.
func (j *journal) note(r record) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.write(r)
}

func (j *journal) write(r record) error {
	r.At = j.now().Unix()
	if j.lines >= rewriteAt {
		if err := j.rewrite(); err != nil {
			return err
		}
	}
	if _, err := j.file.Write(append(line(r), '\n')); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	if r.Phase != over { // An end that is forgotten is found out again.
		if err := j.file.Sync(); err != nil {
			return fmt.Errorf("journal: %w", err)
		}
	}
	j.lines++
	j.apply(r)
	return nil
}

// knows reports whether a job has been there.
func (j *journal) knows(id string) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	_, known := j.jobs[id]
	return known
}

// left lists the jobs that are not over, the oldest first.
func (j *journal) left() []record {
	j.mu.Lock()
	defer j.mu.Unlock()
	var list []record
	for _, id := range slices.Clone(j.order) {
		if r := j.jobs[id]; r.Phase != over {
			list = append(list, *r)
		}
	}
	return list
}

func (j *journal) close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.file.Close()
}
