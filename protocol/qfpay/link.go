package qfpay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"time"
)

const connectTimeout = 5 * time.Second // §7.

// OverHTTP is a terminal on HTTP or HTTPS.
type OverHTTP struct {
	URL  string       // Such as "http://192.168.1.20:9001".
	HTTP *http.Client // For its Transport, where a terminal's certificate is pinned; nil is a plain one.
}

var plainTransport = &http.Transport{DialContext: (&net.Dialer{Timeout: connectTimeout}).DialContext, DisableKeepAlives: true}

func (*OverHTTP) form() Form { return FormQuoted }

func (l *OverHTTP) exchange(ctx context.Context, op FuncType, body []byte, _ func([]byte) bool) ([]byte, error) {
	var connected bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected = true }})
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(l.URL, "/")+op.Path(), bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotSent, err)
	}
	r.GetBody = nil // It must not be sent a second time on another connection.
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json")
	client := &http.Client{Transport: plainTransport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	if l.HTTP != nil && l.HTTP.Transport != nil {
		client.Transport = l.HTTP.Transport
	}
	resp, err := client.Do(r)
	if err != nil {
		if !connected {
			return nil, fmt.Errorf("%w: %w", ErrNotSent, err)
		}
		return nil, fmt.Errorf("%w: %w", errSilence, err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, answerMax+1))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errSilence, err)
	}
	return answer, nil
}

// OverTCP is a terminal on TCP: one connection for each request.
type OverTCP struct {
	Address string // Such as "192.168.1.20:9002".
}

func (*OverTCP) form() Form { return FormBare }

// exchange does not close its half before the answer is there (§3.2).
func (l *OverTCP) exchange(ctx context.Context, _ FuncType, body []byte, whole func([]byte) bool) ([]byte, error) {
	conn, err := (&net.Dialer{Timeout: connectTimeout}).DialContext(ctx, "tcp", l.Address)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotSent, err)
	}
	defer conn.Close()
	closer := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer closer()
	if n, err := conn.Write(body); err != nil {
		if n == 0 {
			return nil, fmt.Errorf("%w: %w", ErrNotSent, err)
		}
		return nil, fmt.Errorf("%w: %w", errSilence, err)
	}
	var answer []byte
	for {
		var chunk [4096]byte
		n, err := conn.Read(chunk[:])
		answer = append(answer, chunk[:n]...)
		switch {
		case n > 0 && len(answer) <= answerMax && whole(answer):
			return answer, nil
		case len(answer) > answerMax:
			return nil, fmt.Errorf("%w: the answer is too long", errSilence)
		case errors.Is(err, io.EOF) && len(answer) > 0:
			return answer, nil // Whatever it is; the caller reads it.
		case err != nil:
			return nil, fmt.Errorf("%w: %w", errSilence, cmpErr(ctx, err))
		}
	}
}

// cmpErr is why a read failed: because ctx has ended, if it has.
func cmpErr(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}
