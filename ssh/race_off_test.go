//go:build !race

package ssh

const memoryFactor = 1
