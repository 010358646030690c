// Package signal carries payment signals between processes over NATS. Signals are hints: one that is lost costs a waiter some seconds,
// never a payment, since waiters read the store again by themselves (design 4.5). So nothing is stored, confirmed or repeated here.
package signal

import (
	"encoding/binary"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/tillgate/tillgate/payment"
)

const (
	subject = "tillgate.payment"
	// pendingMax bounds the signals that wait for this process: beyond it they are dropped, and waiters find the news by themselves.
	pendingMax = 65_536
	// reconnectPause is the pause between tries to reach a NATS server that went away; it is tried for ever.
	reconnectPause = 500 * time.Millisecond
	// readyLimit is how long an embedded server may take to listen.
	readyLimit = 10 * time.Second
)

// NATS is a payment.Signal that reaches every process on the same NATS servers. Within the process it needs no server: a cut line does not
// delay what happened here.
type NATS struct {
	local payment.LocalSignal
	conn  *nats.Conn
	sub   *nats.Subscription
}

var _ payment.Signal = (*NATS)(nil)

// Dial connects to NATS servers, by URLs with commas between such as "nats://10.0.0.1:4222". It does not fail when none is there yet:
// signals flow once one is.
func Dial(urls string, log *slog.Logger) (*NATS, error) {
	n := &NATS{}
	conn, err := nats.Connect(urls, nats.Name("tillgate"), nats.NoEcho(), nats.MaxReconnects(-1), nats.ReconnectWait(reconnectPause),
		nats.RetryOnFailedConnect(true), nats.ReconnectBufSize(-1), // What cannot be sent now is lost: it is old by then.
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				log.Warn("signal: line to NATS cut", "error", err)
			}
		}),
		nats.ReconnectHandler(func(*nats.Conn) { log.Info("signal: line to NATS is back") }))
	if err != nil {
		return nil, fmt.Errorf("signals: %w", err)
	}
	n.conn = conn
	n.sub, err = conn.Subscribe(subject, func(m *nats.Msg) {
		if merchant, id, ok := decode(m.Data); ok {
			n.local.Publish(merchant, id)
		}
	})
	if err == nil {
		err = n.sub.SetPendingLimits(pendingMax, pendingMax*size)
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("signals: %w", err)
	}
	return n, nil
}

// Lossy is true: what is published while a server is away is lost to us.
func (*NATS) Lossy() bool { return true }

// Publish wakes who waits for the payment, here and elsewhere.
func (n *NATS) Publish(m payment.MerchantID, id payment.ID) {
	n.local.Publish(m, id)
	_ = n.conn.Publish(subject, encode(m, id)) // Lost without a line, as it may be.
}

// Watch calls fn when a payment changes, here or elsewhere.
func (n *NATS) Watch(m payment.MerchantID, id payment.ID, fn func()) (end func()) {
	return n.local.Watch(m, id, fn)
}

// Waiting is how many wait for payments in this process.
func (n *NATS) Waiting() int { return n.local.Waiting() }

// Close ends the connection.
func (n *NATS) Close() { n.conn.Close() }

// size is the length of a signal on the wire: merchant and payment, big-endian.
const size = 16

func encode(m payment.MerchantID, id payment.ID) []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, size), uint64(m))
	return binary.BigEndian.AppendUint64(b, uint64(id))
}

func decode(b []byte) (payment.MerchantID, payment.ID, bool) {
	if len(b) != size {
		return 0, 0, false
	}
	return payment.MerchantID(binary.BigEndian.Uint64(b)), payment.ID(binary.BigEndian.Uint64(b[8:])), true
}

// Server is a NATS server inside this process, for installations of a few processes that run none of their own.
type Server struct{ nats *server.Server }

// Listen starts a NATS server on host:port; port 0 takes a free one. Stop ends it.
func Listen(address string) (*Server, error) {
	host, portText, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("signals: %w", err)
	}
	port, err := strconv.Atoi(portText)
	if err != nil {
		return nil, fmt.Errorf("signals: %q is not a port", portText)
	}
	if port == 0 {
		port = server.RANDOM_PORT
	}
	s, err := server.NewServer(&server.Options{Host: host, Port: port, NoSigs: true, NoLog: true, MaxPayload: size})
	if err != nil {
		return nil, fmt.Errorf("signals: %w", err)
	}
	s.Start()
	if !s.ReadyForConnections(readyLimit) {
		s.Shutdown()
		return nil, fmt.Errorf("signals: cannot listen on %s; is it taken by another program?", address)
	}
	return &Server{s}, nil
}

// URL is where other processes reach the server.
func (s *Server) URL() string { return s.nats.ClientURL() }

// Stop ends the server and waits for it.
func (s *Server) Stop() {
	s.nats.Shutdown()
	s.nats.WaitForShutdown()
}
