// Package session is what protocols see of Gantry: logins, and what they may do.
package session

// Server makes sessions. Safe for concurrent use.
type Server struct{}

// Session is one login's view of its tree. Safe for concurrent use.
type Session struct{}

// Handle is one open file, a transfer in the registry.
type Handle struct{}
