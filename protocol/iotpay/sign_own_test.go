package iotpay_test

import (
	"crypto/md5"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// ownSign is the test's own signature, written apart from the package's: values as they print, empty ones left out (§2.1).
func ownSign(f map[string]any, key string) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(f)) {
		if text := fmt.Sprint(f[name]); name != "sign" && text != "" {
			parts = append(parts, name+"="+text)
		}
	}
	return fmt.Sprintf("%X", md5.Sum([]byte(strings.Join(append(parts, "key="+key), "&"))))
}
