//go:build !unix

// Package dbtest starts real database servers for tests. It does so on Unix only.
package dbtest
