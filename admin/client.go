package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// Client calls the API of a server.
type Client struct {
	BaseURL string // Of the server, without Prefix.
	Token   string
	HTTP    *http.Client // Nil is http.DefaultClient.
}

// Local is a client of a server in the same process, which needs no token.
func Local(s *Server) *Client {
	return &Client{BaseURL: "http://local", HTTP: &http.Client{Transport: local{s}}}
}

// local carries requests to a handler without a network.
type local struct{ handler http.Handler }

func (l local) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body == nil {
		r.Body = http.NoBody
	}
	w := &recorder{status: http.StatusOK, header: http.Header{}}
	l.handler.ServeHTTP(w, r)
	return &http.Response{StatusCode: w.status, Status: http.StatusText(w.status), Header: w.header, Body: io.NopCloser(&w.body), Request: r}, nil
}

// recorder is an answer in memory.
type recorder struct {
	status int
	header http.Header
	body   bytes.Buffer
}

func (w *recorder) Header() http.Header         { return w.header }
func (w *recorder) WriteHeader(status int)      { w.status = status }
func (w *recorder) Write(b []byte) (int, error) { return w.body.Write(b) }

// ProblemError is the server's refusal.
type ProblemError struct {
	Status  int
	Problem Problem
}

func (e *ProblemError) Error() string { return e.Problem.Text }

// IsNotFound reports whether an error says that something is not there.
func IsNotFound(err error) bool {
	var p *ProblemError
	return errors.As(err, &p) && p.Status == http.StatusNotFound
}

// answerMax bounds an answer: a part of a list.
const answerMax = 4 << 20

// Do calls the API: path is below Prefix; in and out are JSON values, in nil for no body.
func (c *Client) Do(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimRight(c.BaseURL, "/")+Prefix+path, body)
	if err != nil {
		return err
	}
	if c.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.Token)
	}
	req.Header.Set("Content-Type", "application/json")
	client := c.HTTP
	if client == nil {
		client = http.DefaultClient
	}
	res, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("the server at %s cannot be reached: %w", c.BaseURL, err)
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(res.Body, answerMax))
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		problem := &ProblemError{Status: res.StatusCode}
		if json.Unmarshal(text, &problem.Problem) != nil || problem.Problem.Text == "" {
			problem.Problem = Problem{Error: "internal", Text: "the server answered " + res.Status + ", which is not of this API"}
		}
		return problem
	}
	return json.Unmarshal(text, out)
}

// All reads a list to its end. Query holds what the list is limited by; nil for nothing.
func All[T any](ctx context.Context, c *Client, path string, query url.Values) ([]T, error) {
	rows := []T{}
	for after := ""; ; {
		q := url.Values{}
		for name, values := range query {
			q[name] = values
		}
		if after != "" {
			q.Set("after", after)
		}
		var part Page[T]
		full := path
		if len(q) > 0 {
			full += "?" + q.Encode()
		}
		if err := c.Do(ctx, http.MethodGet, full, nil, &part); err != nil {
			return nil, err
		}
		rows = append(rows, part.Rows...)
		if part.Next == "" {
			return rows, nil
		}
		after = part.Next
	}
}

// Path joins parts of a path, each escaped.
func Path(parts ...string) string {
	var b strings.Builder
	for _, p := range parts {
		b.WriteString("/" + url.PathEscape(p))
	}
	return b.String()
}
