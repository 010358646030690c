package uqpay

import (
	"context"
	"crypto/hmac"
	"encoding/hex"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/tillgate/tillgate/internal/peer"
	"github.com/tillgate/tillgate/payment"
)

// TokenStore remembers which token of a client is its newest, for all servers and beyond restarts.
type TokenStore interface {
	// NewestToken is the ID of a credential's newest token; empty when it has none.
	NewestToken(ctx context.Context, merchant payment.MerchantID, credential payment.ID) (string, error)
	SetNewestToken(ctx context.Context, merchant payment.MerchantID, credential payment.ID, token string) error
}

const (
	// newestLife bounds how long another server's newer token goes unnoticed here (design 8).
	newestLife = 2 * time.Second
	// newestMax bounds how many clients are remembered.
	newestMax = 100_000
)

// newest remembers the newest tokens of clients for newestLife.
type newest struct {
	mu    sync.Mutex
	rows  map[payment.ID]newestToken
	mints int // How many were made here: what was read before one may be older than it.
}

type newestToken struct {
	id    string
	until time.Time
}

// get returns the token that is remembered, and how many have been made.
func (n *newest) get(credential payment.ID, now time.Time) (id string, known bool, mints int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	row, ok := n.rows[credential]
	return row.id, ok && now.Before(row.until), n.mints
}

// made remembers a token that was made here.
func (n *newest) made(credential payment.ID, id string, now time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.mints++
	n.put(credential, id, now)
}

// read remembers a token that was read, unless one has been made since.
func (n *newest) read(credential payment.ID, id string, now time.Time, mints int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if mints == n.mints {
		n.put(credential, id, now)
	}
}

func (n *newest) put(credential payment.ID, id string, now time.Time) {
	if n.rows == nil || len(n.rows) >= newestMax {
		n.rows = map[payment.ID]newestToken{}
	}
	n.rows[credential] = newestToken{id, now.Add(newestLife)}
}

// Refusals of §2.
var (
	errNoBearer    = refuse(TypeUnauthorized, CodeUnauthorized, "invalid auth token format")
	errBadToken    = refuse(TypeUnauthorized, CodeUnauthorized, "invalid token")
	errOldToken    = refuse(TypeUnauthorized, CodeUnauthorized, "token has expired")
	errOtherClient = refuse(TypeUnauthorized, CodeUnauthorized, "x-client-id is not the token's client")
	errAddress     = refuse(TypeUnauthorized, CodeUnauthorized, "access denied: the address is not allowed")
	errBadClient   = refuse(TypeInvalidRequest, CodeInvalidClient, "Invalid client id")
	errBadAPIKey   = refuse(TypeUnauthorized, CodeInvalidAPIKey, "Invalid API key")
	errSubAccount  = refuse(TypeAccount, CodeSubAccountUnknown, "Sub account not found")
	errPOSOff      = refuse(TypeAccount, CodePOSOff, "Account pos api no permission")
	errNoClient    = refuse(TypeInvalidRequest, CodeInvalidClient, "Invalid client id: x-client-id is missing")
	errDisabled    = refuse(TypeUnauthorized, CodeUnauthorized, "client is disabled")
)

// clientIDMax bounds, in bytes, the client ids and account ids that are looked up.
const clientIDMax = 128

// token is the token endpoint (§2.1).
func (s *Server) token(c *call) (*reply, error) {
	client, key := c.r.Header.Get("x-client-id"), c.r.Header.Get("x-api-key")
	if client == "" {
		return nil, errNoClient
	}
	caller, err := s.client(c.r.Context(), client)
	if errors.Is(err, payment.ErrUnauthorized) {
		return nil, errBadClient
	}
	if err != nil {
		return nil, err
	}
	if !goodKey(caller.Credential.Profile.APIKeys, keyHash(s.Vault, client, key)) {
		return nil, errBadAPIKey
	}
	if !peer.Allows(caller.Credential.Profile.AllowedIPs, c.ip) {
		return nil, errAddress
	}
	if !caller.Credential.Profile.NoRateLimit {
		if err := s.limiter.take("token "+client, s.limits().Token, c.now); err != nil {
			return nil, err
		}
	}
	var id [16]byte
	if err := s.random(id[:]); err != nil {
		return nil, err
	}
	end := c.now.Add(tokenLife).Truncate(time.Second)
	claims := Claims{EntityID: uuidOf("uqpay entity", caller.Merchant.PublicID), ShortEntityID: caller.Merchant.PublicID, ParentEntityID: "0",
		ClientID: client, APIVersion: tokenVersion, BusType: tokenBusType, Expires: end.Unix(), Issuer: tokenIssuer, ID: hex.EncodeToString(id[:])}
	text, err := SignToken(claims, s.mac)
	if err != nil {
		return nil, err
	}
	if !caller.Credential.Profile.ManyTokens {
		if err := s.Tokens.SetNewestToken(c.r.Context(), caller.Merchant.ID, caller.Credential.ID, claims.ID); err != nil {
			return nil, err
		}
		s.newest.made(caller.Credential.ID, claims.ID, c.now)
	}
	return ok(TokenResponse{AuthToken: text, ExpiredAt: end.Unix()}), nil
}

// goodKey compares a hash with a list of them, in constant time.
func goodKey(list, hash string) bool {
	good := false
	for _, k := range splitList(list) {
		good = hmac.Equal([]byte(k), []byte(hash)) || good
	}
	return good
}

func (s *Server) mac(text []byte) []byte { return s.Vault.MAC(purposeToken, text) }

// client finds a client by its id.
func (s *Server) client(ctx context.Context, id string) (payment.Caller, error) {
	if len(id) > clientIDMax || strings.Contains(id, accountDivider) {
		return payment.Caller{}, payment.ErrUnauthorized
	}
	return s.Core.Caller(ctx, Protocol, id)
}

// authenticate finds the caller by its token, in the order of §2.2.
func (s *Server) authenticate(c *call) error {
	ctx := c.r.Context()
	text, found := strings.CutPrefix(c.r.Header.Get("x-auth-token"), "Bearer ")
	if !found {
		return errNoBearer
	}
	claims, err := VerifyToken(text, s.mac, c.now)
	switch {
	case errors.Is(err, errTokenExpired):
		return errOldToken
	case err != nil:
		return errBadToken
	}
	if id := c.r.Header.Get("x-client-id"); id != "" && id != claims.ClientID {
		return errOtherClient
	}
	caller, err := s.client(ctx, claims.ClientID)
	switch {
	case errors.Is(err, payment.ErrUnauthorized):
		return errBadToken
	case errors.Is(err, payment.ErrForbidden):
		return errDisabled
	case err != nil:
		return err
	}
	if !caller.Credential.Profile.ManyTokens {
		if err := s.isNewest(ctx, caller, claims.ID, c.now); err != nil {
			return err
		}
	}
	if !peer.Allows(caller.Credential.Profile.AllowedIPs, c.ip) {
		return errAddress
	}
	c.client, c.caller, c.clientID = caller, caller, claims.ClientID
	return nil
}

// isNewest refuses a token that is not its client's newest. One that is not the newest known here may have been made by another server.
func (s *Server) isNewest(ctx context.Context, caller payment.Caller, id string, now time.Time) error {
	known, ok, mints := s.newest.get(caller.Credential.ID, now)
	if ok && known == id {
		return nil
	}
	stored, err := s.Tokens.NewestToken(ctx, caller.Merchant.ID, caller.Credential.ID)
	if err != nil {
		return err
	}
	s.newest.read(caller.Credential.ID, stored, now, mints)
	if stored != id {
		return errOldToken
	}
	return nil
}

// onBehalf makes the call that of a sub-account, when a header names one (§2.2).
func (s *Server) onBehalf(c *call) error {
	account := c.r.Header.Get("x-on-behalf-of")
	if account == "" {
		return nil
	}
	if len(account) > clientIDMax || strings.Contains(account, accountDivider) {
		return errSubAccount
	}
	sub, err := s.Core.Caller(c.r.Context(), AccountProtocol, AccountSecret(c.clientID, account))
	if errors.Is(err, payment.ErrUnauthorized) || errors.Is(err, payment.ErrForbidden) {
		return errSubAccount
	}
	if err != nil {
		return err
	}
	sub.Credential.Protocol = Protocol
	c.caller = sub
	return nil
}

// isUnauthorized reports whether an error counts against the address that met it.
func isUnauthorized(err error) bool {
	var e *Error
	return errors.As(err, &e) && (e.Status == http.StatusUnauthorized || e.Code == CodeInvalidClient)
}
