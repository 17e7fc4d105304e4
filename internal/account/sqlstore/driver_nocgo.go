//go:build !cgo

package sqlstore

import _ "modernc.org/sqlite" // the driver "sqlite", without cgo

const driverName = "sqlite"

// pragmas are the connection's settings in the driver's own form.
const pragmas = "_txlock=immediate&_pragma=busy_timeout(5000)&_pragma=foreign_keys(1)&_pragma=synchronous(1)&_pragma=journal_mode(WAL)"
