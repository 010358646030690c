package sandbox

import (
	"bufio"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
)

// Handler serves the card host's books and the switch that resets its cards. The program mounts it beside the wallet network's handler.
func (h *CardHost) Handler() http.Handler {
	mux := http.NewServeMux()
	for pattern, serve := range map[string]handler{
		"GET /cards/books":  h.serveBooks,
		"POST /cards/reset": h.serveReset,
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			err := serve(w, r)
			if err == nil {
				return
			}
			var no *refusal
			if !errors.As(err, &no) {
				h.log.Error("card host", "call", r.Pattern, "error", err)
				no = &refusal{http.StatusInternalServerError, "internal", "", "the card host failed; its log says why"}
			}
			if err := writeJSON(w, no.status, no); err != nil {
				h.log.Error("card host", "error", err)
			}
		})
	}
	return mux
}

// serveBooks tells movements, newest first: all, those of one reference, or those after one that the caller knows.
func (h *CardHost) serveBooks(w http.ResponseWriter, r *http.Request) error {
	if err := h.flush(); err != nil { // What is told here is written down.
		return err
	}
	query := r.URL.Query()
	first := 0
	if after := query.Get("after"); after != "" {
		n, err := strconv.ParseUint(strings.TrimPrefix(after, "mv"), 10, 31)
		if err != nil {
			return invalid("after", "must be the id of a movement")
		}
		first = int(n)
	}
	reference := query.Get("reference")
	h.mu.Lock()
	left := len(h.book.moved)
	h.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	out := bufio.NewWriter(w)
	enc := json.NewEncoder(out)
	sep := "["
	for left > first {
		list := h.chunk(max(first, left-booksChunk), left, reference)
		left -= booksChunk
		for _, m := range list {
			_, _ = out.WriteString(sep) // The writer keeps the first error for Flush.
			if err := enc.Encode(m); err != nil {
				return nil // The reader has left in the middle.
			}
			sep = ","
		}
	}
	if sep == "[" {
		_, _ = out.WriteString(sep)
	}
	_, _ = out.WriteString("]\n")
	_ = out.Flush() // As above.
	return nil
}

// chunk tells the movements from one place to before another, newest first.
func (h *CardHost) chunk(from, to int, reference string) []movement {
	h.mu.Lock()
	defer h.mu.Unlock()
	var list []movement
	for i := to - 1; i >= from; i-- {
		if rrn := &h.book.at(h.book.moved[i]).key.rrn; reference == "" || reference == string(rrn[:]) {
			list = append(list, h.book.movement(i))
		}
	}
	return list
}

func (h *CardHost) serveReset(w http.ResponseWriter, _ *http.Request) error {
	if err := h.Reset(); err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, map[string]string{"status": "reset"})
}
