package iotpay

import (
	"context"
	"net/netip"
	"strings"

	"github.com/tillgate/tillgate/payment"
)

// Accounts knows the merchants of this protocol: their keys, logins and terminals.
type Accounts interface {
	// Account finds an account by its mchId. Errors: payment.ErrNotFound; payment.ErrForbidden when it or its merchant is disabled.
	Account(ctx context.Context, mchID string) (Account, error)
	// Login finds who asks within an account. loginName is the request's jobNo or loginName, and empty where a request names none; device
	// is any text by which a till names itself, and selects the terminal where a login has several (§3.1). The caller's terminal is zero
	// where none is bound to the login, or several are and device names none of them. Errors: payment.ErrUnauthorized for a login that the
	// account does not have; payment.ErrForbidden when login, terminal or store is disabled.
	Login(ctx context.Context, mchID, loginName, device string) (payment.Caller, error)
}

// Account is a merchant's account.
type Account struct {
	Merchant payment.MerchantID
	// Keys are its merchant keys, the current one first; a second one while it is being changed.
	Keys []Key
	// AllowedIPs are comma-separated addresses or prefixes; empty for any.
	AllowedIPs string
}

// key is what answers are signed with.
func (a Account) key() Key {
	if len(a.Keys) == 0 {
		return Key{}
	}
	return a.Keys[0]
}

// allows reports whether a list of addresses and prefixes holds a connection's address. What cannot be read holds none.
func allows(list, remote string) bool {
	if list == "" {
		return true
	}
	at, err := netip.ParseAddrPort(remote)
	if err != nil {
		return false
	}
	ip := at.Addr().Unmap().WithZone("")
	for entry := range strings.SplitSeq(list, ",") {
		entry = strings.TrimSpace(entry)
		if prefix, err := netip.ParsePrefix(entry); err == nil && prefix.Contains(ip) {
			return true
		}
		if one, err := netip.ParseAddr(entry); err == nil && one.Unmap().WithZone("") == ip {
			return true
		}
	}
	return false
}
