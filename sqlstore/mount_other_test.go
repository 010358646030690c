//go:build !linux

package sqlstore

import "errors"

func mountSmall(string) error { return errors.New("only on Linux") }

func growSmall(string) error { return nil }

func unmount(string) error { return nil }
