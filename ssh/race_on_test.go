//go:build race

package ssh

// memoryFactor is how much more memory the race detector makes of ours: shadow words beside each byte.
const memoryFactor = 4
