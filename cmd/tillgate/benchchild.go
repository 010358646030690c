package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Limits of a child process.
const (
	childReady = 30 * time.Second      // From its start to its address.
	childLook  = 10 * time.Millisecond // Between two looks whether it is ready.
	childStop  = stopLimit + drainTime // From being asked to stop to its end; then it is killed.
	drainTime  = 20 * time.Second      // For the engine, after the requests in hand.
	logTail    = 1 << 10               // Bytes of its log that an error shows.

	scrapeTime  = 30 * time.Second
	scrapePause = 200 * time.Millisecond
	scrapeMax   = 1 << 20 // Bytes.
)

// child is this program as a process of its own.
type child struct {
	name  string
	cmd   *exec.Cmd
	log   string        // File of its standard error.
	ended chan struct{} // Closed when it has ended; cmd.ProcessState is set then.
	once  sync.Once     // It is stopped once.
}

// spawn starts a child, whose log and standard output go to files: a pipe would have to be emptied by us, at the cost of the load.
func (b *bench) spawn(name, dir string, env []string, args ...string) (*child, error) {
	c := &child{name: name, log: dir + "/" + name + ".log", ended: make(chan struct{})}
	log, err := os.Create(c.log)
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }() // The child has its own handle.
	out, err := os.Create(c.output())
	if err != nil {
		return nil, err
	}
	defer func() { _ = out.Close() }()
	c.cmd = exec.Command(b.program, args...)
	c.cmd.Stdout, c.cmd.Stderr, c.cmd.SysProcAttr, c.cmd.Env = out, log, dieWithUs(), append(plainEnvironment(), env...)
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		_ = c.cmd.Wait() // How it ended is in its ProcessState.
		close(c.ended)
	}()
	return c, nil
}

func (c *child) output() string { return strings.TrimSuffix(c.log, ".log") + ".out" }

// plainEnvironment is ours without the settings of a server that somebody runs on this machine.
func plainEnvironment() []string {
	var plain []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "TILLGATE_") || strings.HasPrefix(v, profileVariable) {
			plain = append(plain, v)
		}
	}
	return plain
}

// profileVariable names the folder for profiles of a program that was built to make them; see docs/performance.md.
const profileVariable = "TILLGATE_PROFILE"

// await calls look until it finds what it looks for, and fails when the child ends before.
func (c *child) await(ctx context.Context, look func() (bool, error)) error {
	limit := time.NewTimer(childReady)
	defer limit.Stop()
	tick := time.NewTicker(childLook)
	defer tick.Stop()
	for {
		if ok, err := look(); ok || err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-c.ended:
			return fmt.Errorf("%s ended by itself: %v\n%s", c.name, c.cmd.ProcessState, c.tail())
		case <-limit.C:
			return fmt.Errorf("%s was not ready within %s\n%s", c.name, childReady, c.tail())
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// announced waits for what a child prints once it is ready.
func (c *child) announced(ctx context.Context, into any) error {
	return c.await(ctx, func() (bool, error) {
		text, err := os.ReadFile(c.output())
		if err != nil || !bytes.HasSuffix(text, []byte("\n")) {
			return false, err
		}
		return true, json.Unmarshal(text, into)
	})
}

// served waits for the line of its log with which a server tells its address.
func (c *child) served(ctx context.Context) (url string, err error) {
	err = c.await(ctx, func() (bool, error) {
		f, err := os.Open(c.log)
		if err != nil {
			return false, err
		}
		defer func() { _ = f.Close() }()
		lines := bufio.NewScanner(f)
		for lines.Scan() {
			var line struct{ Msg, URL string }
			if json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == "serving" {
				url = line.URL
				return true, nil
			}
		}
		return false, lines.Err()
	})
	return url, err
}

// tail is the end of the child's log.
func (c *child) tail() string {
	text, err := os.ReadFile(c.log)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-logTail):])
}

// stop ends the child in the ordinary way, and reports once when that was not possible.
func (c *child) stop() (err error) {
	c.once.Do(func() { err = c.end() })
	return err
}

func (c *child) end() error {
	_ = c.cmd.Process.Signal(syscall.SIGTERM) // It may have ended by itself.
	select {
	case <-c.ended:
	case <-time.After(childStop):
		_ = c.cmd.Process.Kill()
		<-c.ended
		return fmt.Errorf("%s did not stop within %s and was killed\n%s", c.name, childStop, c.tail())
	}
	if !c.cmd.ProcessState.Success() {
		return fmt.Errorf("%s: %v\n%s", c.name, c.cmd.ProcessState, c.tail())
	}
	return nil
}

// cpu is what the child has used of the processors in all its life, once it has ended.
func (c *child) cpu() time.Duration {
	return c.cmd.ProcessState.UserTime() + c.cmd.ProcessState.SystemTime()
}

// ownCPU is what we have used of the processors so far.
func ownCPU() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// get reads a page of a child.
func get(ctx context.Context, url string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK {
		defer func() { _ = res.Body.Close() }()
		why, _ := io.ReadAll(io.LimitReader(res.Body, logTail)) // For people only.
		return nil, fmt.Errorf("%s: %s: %s", url, res.Status, why)
	}
	return res.Body, nil
}

// scrape reads the measures of a server, by name and labels as they are written. A server under full load may fail to tell all of them in
// time, and is asked again.
func scrape(ctx context.Context, url string) (measures map[string]float64, err error) {
	ctx, cancel := context.WithTimeout(ctx, scrapeTime)
	defer cancel()
	for {
		if measures, err = scrapeOnce(ctx, url); err == nil {
			return measures, nil
		}
		select {
		case <-time.After(scrapePause):
		case <-ctx.Done():
			return nil, err
		}
	}
}

func scrapeOnce(ctx context.Context, url string) (map[string]float64, error) {
	body, err := get(ctx, url+"/metrics")
	if err != nil {
		return nil, err
	}
	defer func() { _ = body.Close() }()
	measures := map[string]float64{}
	lines := bufio.NewScanner(io.LimitReader(body, scrapeMax))
	for lines.Scan() {
		name, value, ok := strings.Cut(lines.Text(), " ")
		if n, err := strconv.ParseFloat(value, 64); ok && err == nil && !strings.HasPrefix(name, "#") {
			measures[name] = n
		}
	}
	return measures, lines.Err()
}
