package sandbox

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
)

// journalVersion is in the journal's first line; another version is refused rather than misread.
const journalVersion = 1

// journalBuffer is the read buffer at start; lines may be longer.
const journalBuffer = 1 << 20

// record is one line of the journal: what one thing is from now on. Exactly one field is set. Replaying is keeping the last line of each thing.
type record struct {
	Version int      `json:"version,omitempty"`
	Payment *payment `json:"payment,omitempty"`
	Refund  *refund  `json:"refund,omitempty"`
	Unseen  string   `json:"unseen,omitempty"` // A reference that was cancelled before it was seen.
	Spent   string   `json:"spent,omitempty"`  // A reference whose fault has happened; it starts with "payment/" or "refund/".
}

// errClosed says that the journal cannot be written any more.
var errClosed = errors.New("sandbox: the wallet network's journal is closed")

// journal appends lines to a file with one write(2) each, and without fsync: what was written survives the death of the process, which is
// the promise. Its owner serialises the calls.
type journal struct {
	file *os.File
	size int64 // Bytes of whole lines; what is beyond is torn.
	buf  bytes.Buffer
	enc  *json.Encoder
	dead error // Why nothing can be written any more.
}

// openJournal opens or creates the file, hands every record to apply, and cuts off a torn last line.
func openJournal(path string, apply func(record) error) (_ *journal, torn bool, err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, false, err
	}
	defer func() {
		if err != nil {
			_ = f.Close() // The first error says more.
		}
	}()
	j := &journal{file: f}
	j.enc = json.NewEncoder(&j.buf)
	j.enc.SetEscapeHTML(false)
	if torn, err = j.replay(apply); err != nil {
		return nil, false, fmt.Errorf("%s: %w", path, err)
	}
	if torn {
		if err := f.Truncate(j.size); err != nil {
			return nil, false, err
		}
	}
	if j.size == 0 {
		if err := j.append(record{Version: journalVersion}); err != nil {
			return nil, false, err
		}
	}
	return j, torn, nil
}

// replay reads all whole lines. A last line that lacks its end, or that is not JSON, is torn: its answer never left.
func (j *journal) replay(apply func(record) error) (torn bool, err error) {
	r := bufio.NewReaderSize(j.file, journalBuffer)
	for n := 1; ; n++ {
		line, err := r.ReadBytes('\n')
		if err == io.EOF {
			return len(line) > 0, nil
		}
		if err != nil {
			return false, err
		}
		var rec record
		if err := json.Unmarshal(line, &rec); err != nil {
			if _, end := r.Peek(1); end == io.EOF {
				return true, nil
			}
			return false, fmt.Errorf("line %d: %w; delete the file to begin anew", n, err)
		}
		if n == 1 && rec.Version != journalVersion {
			return false, fmt.Errorf("line 1: not a journal of version %d; delete the file to begin anew", journalVersion)
		}
		if err := apply(rec); err != nil {
			return false, fmt.Errorf("line %d: %w; delete the file to begin anew", n, err)
		}
		j.size += int64(len(line))
	}
}

// append writes one record. After a failure the file is cut back to whole lines; if even that fails nothing is written any more.
func (j *journal) append(rec record) error {
	if j.dead != nil {
		return j.dead
	}
	j.buf.Reset()
	if err := j.enc.Encode(rec); err != nil {
		return fmt.Errorf("encode journal line: %w", err)
	}
	n, err := j.file.Write(j.buf.Bytes())
	if err != nil {
		if n > 0 {
			if cut := j.file.Truncate(j.size); cut != nil {
				j.dead = fmt.Errorf("journal has a torn line that cannot be cut off: %w", cut)
			}
		}
		return fmt.Errorf("write journal: %w", err)
	}
	j.size += int64(n)
	return nil
}

// close ends writing.
func (j *journal) close() error {
	if j.dead == nil {
		j.dead = errClosed
	}
	return j.file.Close()
}
