// Package session is what protocols see of Gantry: logins, and what they may do.
//
// A Server makes a Session of a proven login. A Session maps virtual paths to storages, checks permissions,
// file patterns and quota on both ends of every operation, acts, settles the counters and emits one event.
// A Handle is an open file: a transfer in the registry, with its bandwidth, limits and kill switch.
//
// What a peer controls here is a vfs.Path, link texts (resolved as paths before use), attributes, offsets
// and sizes. Offsets and sizes are checked in Handle.WriteAt and Truncate, before the storage sees them.
//
// # Lock order
//
// A lock may be taken while holding those above it, never the other way round.
//
//  1. userState.build: one compilation of a user's view at a time. Held over storage opens, with a deadline.
//  2. pathLocks: the names an operation changes, in the order of their keys. Held over storage calls.
//  3. Handle.io: a handle's reads and writes (shared) against its end (exclusive).
//  4. tally.mark: one durable mark of an account at a time; a channel, so that waiting ends with a context.
//  5. Server.mu: the registry, the users' states, the views' references.
//  6. Session.mu, Handle.mu: what is open; what a handle remembers.
//  7. openFiles.mu, pendings.mu: the tables of open files and of pending uploads.
//  8. ledger.mu: the table of tallies.
//  9. tally.mu: one account's counters. Nothing is taken under it.
//
// No storage or store is called with a lock of 5 to 9 held.
package session
