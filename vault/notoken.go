//go:build !pkcs11

package vault

import "errors"

// OpenToken is for programs that are built with the tag pkcs11, which needs cgo. This one is not: it returns an error that says so.
func OpenToken(library, label, pin string) (Module, error) {
	return nil, errors.New("this program was built without PKCS#11; build it with: go build -tags pkcs11")
}
