package main

import "syscall"

// tmpfsMagic is statfs(2)'s type of tmpfs, which /dev/shm and often /tmp are.
const tmpfsMagic = 0x01021994

// inMemory reports whether a folder is on no disk at all.
func inMemory(dir string) bool {
	var s syscall.Statfs_t
	return syscall.Statfs(dir, &s) == nil && s.Type == tmpfsMagic
}

// dieWithUs has the kernel stop a child in the ordinary way when we are killed and can no longer do so.
func dieWithUs() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM} }
