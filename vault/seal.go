package vault

import "encoding/binary"

// What a sealed value is. The first byte of its associated data, so that no kind opens as another.
const (
	kindData byte = 'd'
	kindKey  byte = 'k'
)

// Seal encrypts plain for keeping in a row. It opens only for the same purpose and the same bound, which names the row that it is in: a
// value that is copied to another row does not open there. The result is longer than plain by 45 bytes or so. Errors hold no content.
func (v *Vault) Seal(purpose string, plain, bound []byte) ([]byte, error) {
	return v.module.Seal(plain, associated(kindData, purpose, bound))
}

// Unseal is the inverse of Seal. It returns ErrSealed when the value was not sealed here for this purpose and this bound.
func (v *Vault) Unseal(purpose string, sealed, bound []byte) ([]byte, error) {
	return v.module.Unseal(sealed, associated(kindData, purpose, bound))
}

// Rotate makes a new KEK, under which everything is sealed from now on. Values of older KEKs still open; Rewrap brings them to the new one.
// Other processes with the same KEK learn of it when they first meet a value of the new one. It returns ErrRotation for a vault of New.
func (v *Vault) Rotate() error { return v.module.Rotate() }

// Rewrap seals a value anew if it is not sealed under the newest KEK, and reports whether it did; otherwise it returns it as it is, without
// opening it. It returns ErrSealed.
func (v *Vault) Rewrap(purpose string, sealed, bound []byte) (fresh []byte, changed bool, err error) {
	return v.rewrap(sealed, associated(kindData, purpose, bound))
}

func (v *Vault) rewrap(sealed, bound []byte) ([]byte, bool, error) {
	if v.module.Current(sealed) {
		return sealed, false, nil
	}
	plain, err := v.module.Unseal(sealed, bound)
	if err != nil {
		return nil, false, err
	}
	defer clear(plain)
	if v.module.Current(sealed) { // Opening it has shown that another process rotated before.
		return sealed, false, nil
	}
	fresh, err := v.module.Seal(plain, bound)
	return fresh, err == nil, err
}

// associated is the associated data of a value: what it is, what it is for, and where.
func associated(kind byte, purpose string, bound []byte) []byte {
	b := make([]byte, 0, 5+len(purpose)+len(bound))
	b = append(b, kind)
	b = binary.BigEndian.AppendUint32(b, uint32(len(purpose))) // So that no purpose runs into a bound.
	b = append(b, purpose...)
	return append(b, bound...)
}
