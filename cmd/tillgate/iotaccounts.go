package main

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/tillgate/tillgate/payment"
	"github.com/tillgate/tillgate/protocol/iotpay"
	"github.com/tillgate/tillgate/terminal"
)

// iotAccounts are the merchants of IOT Pay: a merchant's number is its mchId, its keys are in its settings, sealed, and its terminals have an
// identity of iotpay under the device's number.
type iotAccounts struct{ *tool }

// iotSettings are a merchant's settings for IOT Pay.
type iotSettings struct {
	Keys       []string `json:"keys"` // Hexadecimal, sealed; the current one first, and the one before.
	AllowedIPs string   `json:"allowed_ips,omitempty"`
}

// keysKept is how many keys of a merchant are good at once, so that tills can be changed one after the other.
const keysKept = 2

// purposeIOTKey is the purpose under which merchants' keys are sealed, bound to the merchant.
const purposeIOTKey = "iotpay-key"

func merchantBound(m payment.MerchantID) []byte {
	return binary.BigEndian.AppendUint64(nil, uint64(m))
}

// Account finds a merchant by its mchId.
func (a iotAccounts) Account(ctx context.Context, mchID string) (iotpay.Account, error) {
	m, err := a.store.FindMerchantByPublicID(ctx, mchID)
	if err != nil {
		return iotpay.Account{}, err
	}
	if m.Disabled {
		return iotpay.Account{}, payment.ErrForbidden
	}
	var s iotSettings
	if err := a.terminals.Settings(ctx, m.ID, iotpay.Protocol, &s); err != nil {
		return iotpay.Account{}, err
	}
	account := iotpay.Account{Merchant: m.ID, AllowedIPs: s.AllowedIPs}
	for _, text := range s.Keys {
		key, err := a.openKey(m.ID, text)
		if err != nil {
			return iotpay.Account{}, fmt.Errorf("key of IOT Pay of merchant %s: %w", mchID, err)
		}
		account.Keys = append(account.Keys, key)
	}
	if len(account.Keys) == 0 {
		return iotpay.Account{}, payment.ErrNotFound // It does not speak IOT Pay.
	}
	return account, nil
}

func (a iotAccounts) openKey(m payment.MerchantID, text string) (iotpay.Key, error) {
	sealed, err := hex.DecodeString(text)
	if err != nil {
		return iotpay.Key{}, err
	}
	key, err := a.vault.Unseal(purposeIOTKey, sealed, merchantBound(m))
	if err != nil {
		return iotpay.Key{}, err
	}
	return iotpay.NewKey(string(key))
}

// newKey makes a merchant's next key; the one before stays good until the one after.
func (a iotAccounts) newKey(ctx context.Context, m payment.MerchantID) (string, error) {
	raw := make([]byte, 16)
	rand.Read(raw) // Never fails.
	key := hex.EncodeToString(raw)
	return key, a.addKey(ctx, m, key)
}

func (a iotAccounts) addKey(ctx context.Context, m payment.MerchantID, key string) error {
	var s iotSettings
	if err := a.terminals.Settings(ctx, m, iotpay.Protocol, &s); err != nil {
		return err
	}
	sealed, err := a.vault.Seal(purposeIOTKey, []byte(key), merchantBound(m))
	if err != nil {
		return err
	}
	s.Keys = append([]string{hex.EncodeToString(sealed)}, s.Keys...)
	s.Keys = s.Keys[:min(len(s.Keys), keysKept)]
	return a.terminals.SetSettings(ctx, m, iotpay.Protocol, s)
}

// Login finds who asks: the device that is named, or the one whose number the login is, or the merchant's only one.
func (a iotAccounts) Login(ctx context.Context, mchID, loginName, device string) (payment.Caller, error) {
	m, err := a.store.FindMerchantByPublicID(ctx, mchID)
	if errors.Is(err, payment.ErrNotFound) {
		return payment.Caller{}, payment.ErrUnauthorized
	}
	if err != nil {
		return payment.Caller{}, err
	}
	numbers := []string{device}
	if device == "" {
		list, err := a.terminals.Identities(ctx, m.ID, terminal.Filter{Protocol: iotpay.Protocol, Limit: 2})
		if err != nil {
			return payment.Caller{}, err
		}
		numbers = []string{loginName}
		if len(list) == 1 {
			numbers = append(numbers, list[0].Number)
		}
	}
	for _, number := range numbers {
		if number == "" {
			continue
		}
		e, err := a.terminals.Find(ctx, iotpay.Protocol, number)
		switch {
		case errors.Is(err, payment.ErrNotFound) || err == nil && e.Merchant != m.ID:
			continue
		case err != nil:
			return payment.Caller{}, err
		}
		return e.Caller, nil
	}
	if device != "" {
		return payment.Caller{}, payment.ErrUnauthorized
	}
	return a.atStore(ctx, m)
}

// atStore is a caller without a terminal, in its merchant's first store: for wallets.
func (a iotAccounts) atStore(ctx context.Context, m payment.Merchant) (payment.Caller, error) {
	places, err := a.store.Stores(ctx, m.ID, 0, 1)
	if err != nil || len(places) == 0 {
		return payment.Caller{}, errors.Join(err, payment.ErrUnauthorized)
	}
	if m.Disabled || places[0].Disabled {
		return payment.Caller{}, payment.ErrForbidden
	}
	return payment.Caller{Credential: payment.Credential{Protocol: iotpay.Protocol, Merchant: m.ID, Store: places[0].ID}, Merchant: m, Store: places[0]}, nil
}
