//go:build pkcs11

package vault

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/miekg/pkcs11"
)

const (
	kekLabel     = "tillgate-kek" // CKA_LABEL of all KEKs.
	kekIDSize    = 8              // Four bytes that count rotations, four at random, so that two who rotate at once make two keys.
	nonceSize    = 12
	tagBits      = 128
	sessionsMax  = 8  // Operations at once. Tokens have few sessions, and a network away more would not help.
	kekCountMax  = 64 // Objects asked for at once; more rotations than anybody makes.
	rotationSize = 4
)

// token is the module over PKCS#11. The KEK is an AES-256 key that the token made and never gives out; it seals with AES-GCM, whose random
// nonces want a rotation before there are four billion values. Other keys come out of their seal into this program's memory for the moment
// in which they are put into the token as session objects that cannot be read: PKCS#11 has no unwrapping with associated data that tokens
// have in common. PINs are in this program's memory while they are translated, as PKCS#11 knows nothing of PIN blocks.
type token struct {
	ctx      *pkcs11.Ctx
	sessions chan pkcs11.SessionHandle // Those not in use.
	mu       sync.RWMutex
	keks     map[string]pkcs11.ObjectHandle // By CKA_ID.
	newest   string
}

// OpenToken opens a PKCS#11 token by its label, with a user's PIN, through the library at a path. When it has no KEK yet it makes one. Errors
// do not hold the PIN.
func OpenToken(library, label, pin string) (Module, error) {
	ctx := pkcs11.New(library)
	if ctx == nil {
		return nil, fmt.Errorf("PKCS#11 library %s cannot be loaded", library)
	}
	// The library is never finalized: it is one for the whole process, and others may use it.
	if err := ctx.Initialize(); err != nil && !isCode(err, pkcs11.CKR_CRYPTOKI_ALREADY_INITIALIZED) {
		return nil, fmt.Errorf("PKCS#11 library %s: %w", library, err)
	}
	slot, err := findSlot(ctx, label)
	if err != nil {
		return nil, err
	}
	t := &token{ctx: ctx, sessions: make(chan pkcs11.SessionHandle, sessionsMax)}
	for range sessionsMax {
		session, err := ctx.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("token %q: %w", label, err), t.Close())
		}
		t.sessions <- session
		if len(t.sessions) > 1 {
			continue // One login is for all sessions.
		}
		if err := ctx.Login(session, pkcs11.CKU_USER, pin); err != nil && !isCode(err, pkcs11.CKR_USER_ALREADY_LOGGED_IN) {
			return nil, errors.Join(fmt.Errorf("log in to token %q: %w", label, err), t.Close())
		}
	}
	if err := t.findKEKs(); err != nil {
		return nil, errors.Join(fmt.Errorf("token %q: %w", label, err), t.Close())
	}
	if t.newest == "" {
		if err := t.Rotate(); err != nil {
			return nil, errors.Join(fmt.Errorf("token %q: %w", label, err), t.Close())
		}
	}
	return t, nil
}

func findSlot(ctx *pkcs11.Ctx, label string) (uint, error) {
	slots, err := ctx.GetSlotList(true)
	if err != nil {
		return 0, fmt.Errorf("list PKCS#11 slots: %w", err)
	}
	for _, slot := range slots {
		if info, err := ctx.GetTokenInfo(slot); err == nil && info.Label == label {
			return slot, nil
		}
	}
	return 0, fmt.Errorf("no PKCS#11 token has the label %q", label)
}

func isCode(err error, codes ...uint) bool {
	var code pkcs11.Error
	return errors.As(err, &code) && slices.Contains(codes, uint(code))
}

// do lends a session, on which one operation runs at a time.
func (t *token) do(fn func(pkcs11.SessionHandle) error) error {
	session := <-t.sessions
	defer func() { t.sessions <- session }()
	return fn(session)
}

// findKEKs reads which KEKs the token has.
func (t *token) findKEKs() error {
	return t.do(func(s pkcs11.SessionHandle) error {
		err := t.ctx.FindObjectsInit(s, []*pkcs11.Attribute{
			pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY),
			pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true),
			pkcs11.NewAttribute(pkcs11.CKA_LABEL, kekLabel),
		})
		if err != nil {
			return fmt.Errorf("find KEK: %w", err)
		}
		objects, _, err := t.ctx.FindObjects(s, kekCountMax)
		if err := errors.Join(err, t.ctx.FindObjectsFinal(s)); err != nil {
			return fmt.Errorf("find KEK: %w", err)
		}
		keks, newest := map[string]pkcs11.ObjectHandle{}, ""
		for _, object := range objects {
			attributes, err := t.ctx.GetAttributeValue(s, object, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_ID, nil)})
			if err != nil {
				return fmt.Errorf("find KEK: %w", err)
			}
			id := string(attributes[0].Value)
			if len(id) != kekIDSize {
				return fmt.Errorf("an object is labelled %s but is not ours", kekLabel)
			}
			keks[id], newest = object, max(newest, id)
		}
		t.mu.Lock()
		defer t.mu.Unlock()
		t.keks, t.newest = keks, newest
		return nil
	})
}

func (t *token) Rotate() error {
	if err := t.findKEKs(); err != nil { // Others may have rotated.
		return err
	}
	id := make([]byte, kekIDSize)
	if err := t.Random(id); err != nil {
		return err
	}
	t.mu.RLock()
	rotations := binary.BigEndian.Uint32(append([]byte(t.newest), make([]byte, rotationSize)...))
	t.mu.RUnlock()
	binary.BigEndian.PutUint32(id, rotations+1)
	err := t.do(func(s pkcs11.SessionHandle) error {
		_, err := t.ctx.GenerateKey(s, mechanism(pkcs11.CKM_AES_KEY_GEN, nil), []*pkcs11.Attribute{
			pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true),
			pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true),
			pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true),
			pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, false),
			pkcs11.NewAttribute(pkcs11.CKA_ENCRYPT, true),
			pkcs11.NewAttribute(pkcs11.CKA_DECRYPT, true),
			pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, 32),
			pkcs11.NewAttribute(pkcs11.CKA_LABEL, kekLabel),
			pkcs11.NewAttribute(pkcs11.CKA_ID, id),
		})
		return err
	})
	if err != nil {
		return fmt.Errorf("make KEK: %w", err)
	}
	return t.findKEKs()
}

func (t *token) Seal(plain, bound []byte) ([]byte, error) {
	t.mu.RLock()
	id, kek := t.newest, t.keks[t.newest]
	t.mu.RUnlock()
	sealed := make([]byte, kekIDSize+nonceSize)
	copy(sealed, id)
	nonce := sealed[kekIDSize:]
	if err := t.Random(nonce); err != nil {
		return nil, err
	}
	err := t.do(func(s pkcs11.SessionHandle) error {
		box, err := t.gcm(s, kek, nonce, bound, plain, t.ctx.EncryptInit, t.ctx.Encrypt)
		sealed = append(sealed, box...)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	return sealed, nil
}

func (t *token) Unseal(sealed, bound []byte) ([]byte, error) {
	if len(sealed) < kekIDSize+nonceSize+tagBits/8 {
		return nil, ErrSealed
	}
	id, nonce, box := string(sealed[:kekIDSize]), sealed[kekIDSize:kekIDSize+nonceSize], sealed[kekIDSize+nonceSize:]
	kek, ok := t.kek(id)
	if !ok {
		if err := t.findKEKs(); err != nil { // Another process may have rotated.
			return nil, err
		}
		if kek, ok = t.kek(id); !ok {
			return nil, ErrSealed
		}
	}
	var plain []byte
	err := t.do(func(s pkcs11.SessionHandle) (err error) {
		plain, err = t.gcm(s, kek, nonce, bound, box, t.ctx.DecryptInit, t.ctx.Decrypt)
		return err
	})
	switch {
	case isCode(err, pkcs11.CKR_ENCRYPTED_DATA_INVALID, pkcs11.CKR_ENCRYPTED_DATA_LEN_RANGE, pkcs11.CKR_DATA_INVALID,
		pkcs11.CKR_GENERAL_ERROR): // SoftHSM's word for a wrong tag is the last.
		return nil, ErrSealed
	case err != nil:
		return nil, fmt.Errorf("unseal: %w", err)
	}
	return plain, nil
}

func (t *token) kek(id string) (pkcs11.ObjectHandle, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	kek, ok := t.keks[id]
	return kek, ok
}

func (t *token) gcm(s pkcs11.SessionHandle, kek pkcs11.ObjectHandle, nonce, bound, in []byte,
	begin func(pkcs11.SessionHandle, []*pkcs11.Mechanism, pkcs11.ObjectHandle) error, run func(pkcs11.SessionHandle, []byte) ([]byte, error)) ([]byte, error) {
	params := pkcs11.NewGCMParams(nonce, bound, tagBits)
	defer params.Free()
	if err := begin(s, mechanism(pkcs11.CKM_AES_GCM, params), kek); err != nil {
		return nil, err
	}
	return run(s, in)
}

func mechanism(kind uint, parameter any) []*pkcs11.Mechanism {
	return []*pkcs11.Mechanism{pkcs11.NewMechanism(kind, parameter)}
}

func (t *token) Current(sealed []byte) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return bytes.HasPrefix(sealed, []byte(t.newest))
}

func (t *token) Random(b []byte) error {
	return t.do(func(s pkcs11.SessionHandle) error {
		r, err := t.ctx.GenerateRandom(s, len(b))
		if err != nil {
			return fmt.Errorf("random bytes of the token: %w", err)
		}
		copy(b, r)
		clear(r)
		return nil
	})
}

// Close ends all sessions, and with them the opened keys and the login.
func (t *token) Close() error {
	var all error
	for len(t.sessions) > 0 {
		all = errors.Join(all, t.ctx.CloseSession(<-t.sessions))
	}
	return all
}

func (t *token) Open(alg Algorithm, sealed, bound []byte) (Key, error) {
	raw, err := t.Unseal(sealed, bound)
	if err != nil {
		return nil, err
	}
	defer clear(raw)
	if err := checkKey(alg, raw); err != nil {
		return nil, err
	}
	k := &tokenKey{token: t, ecb: pkcs11.CKM_AES_ECB, size: 16}
	if alg == AES {
		k.object, err = t.load(pkcs11.CKK_AES, raw)
		return k, err
	}
	k.ecb, k.size = pkcs11.CKM_DES3_ECB, 8
	long := tripleLength(raw)
	defer clear(long)
	if k.object, err = t.load(pkcs11.CKK_DES3, long); err != nil || alg != RetailMAC {
		return k, err
	}
	// Three equal keys make 3DES the DES that the chain needs, which few tokens still have.
	copy(long[8:16], long[:8])
	if k.chain, err = t.load(pkcs11.CKK_DES3, long); err != nil {
		return nil, errors.Join(err, t.destroy(k.object))
	}
	k.mac = true
	return k, nil
}

// load puts a key into the token until the sessions end.
func (t *token) load(kind uint, raw []byte) (object pkcs11.ObjectHandle, err error) {
	err = t.do(func(s pkcs11.SessionHandle) error {
		object, err = t.ctx.CreateObject(s, []*pkcs11.Attribute{
			pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY),
			pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, kind),
			pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false),
			pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true),
			pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true),
			pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, false),
			pkcs11.NewAttribute(pkcs11.CKA_ENCRYPT, true),
			pkcs11.NewAttribute(pkcs11.CKA_DECRYPT, true),
			pkcs11.NewAttribute(pkcs11.CKA_VALUE, raw),
		})
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("load key into the token: %w", err)
	}
	return object, nil
}

func (t *token) destroy(object pkcs11.ObjectHandle) error {
	return t.do(func(s pkcs11.SessionHandle) error { return t.ctx.DestroyObject(s, object) })
}

// tokenKey is an opened key in the token.
type tokenKey struct {
	token  *token
	object pkcs11.ObjectHandle
	chain  pkcs11.ObjectHandle // DES under the first half, when mac.
	mac    bool
	ecb    uint // Mechanism.
	size   int  // Of a block.
}

func (k *tokenKey) Encrypt(dst, src []byte) error {
	return k.run(dst, src, k.token.ctx.EncryptInit, k.token.ctx.Encrypt)
}

func (k *tokenKey) Decrypt(dst, src []byte) error {
	return k.run(dst, src, k.token.ctx.DecryptInit, k.token.ctx.Decrypt)
}

func (k *tokenKey) run(dst, src []byte, begin func(pkcs11.SessionHandle, []*pkcs11.Mechanism, pkcs11.ObjectHandle) error,
	run func(pkcs11.SessionHandle, []byte) ([]byte, error)) error {
	if len(src)%k.size != 0 || len(dst) < len(src) {
		return fmt.Errorf("%w: not whole blocks", ErrKey)
	}
	return k.token.do(func(s pkcs11.SessionHandle) error {
		if err := begin(s, mechanism(k.ecb, nil), k.object); err != nil {
			return fmt.Errorf("key in the token: %w", err)
		}
		out, err := run(s, src)
		if err != nil {
			return fmt.Errorf("key in the token: %w", err)
		}
		copy(dst, out)
		clear(out)
		return nil
	})
}

// MAC is softKey.MAC in two or three calls: CBC over all blocks but the last, whose end is what ECB begins with.
func (k *tokenKey) MAC(data []byte) (mac [8]byte, err error) {
	if !k.mac {
		return mac, ErrKey
	}
	data = padZeros(data)
	last := data[len(data)-8:]
	if head := data[:len(data)-8]; len(head) > 0 {
		err := k.token.do(func(s pkcs11.SessionHandle) error {
			if err := k.token.ctx.EncryptInit(s, mechanism(pkcs11.CKM_DES3_CBC, make([]byte, 8)), k.chain); err != nil {
				return err
			}
			out, err := k.token.ctx.Encrypt(s, head)
			if err == nil {
				copy(mac[:], out[len(out)-8:])
			}
			return err
		})
		if err != nil {
			return mac, fmt.Errorf("MAC in the token: %w", err)
		}
	}
	xor(mac[:], last)
	err = k.Encrypt(mac[:], mac[:])
	return mac, err
}

func (k *tokenKey) Close() error {
	err := k.token.destroy(k.object)
	if k.mac {
		err = errors.Join(err, k.token.destroy(k.chain))
	}
	return err
}
