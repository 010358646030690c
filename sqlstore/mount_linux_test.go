package sqlstore

import "syscall"

// mountSmall mounts a file system that a few hundred rows fill. Only root may.
func mountSmall(dir string) error { return syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=2m,mode=700") }

func growSmall(dir string) error {
	return syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT, "size=16m")
}

func unmount(dir string) error { return syscall.Unmount(dir, 0) }
