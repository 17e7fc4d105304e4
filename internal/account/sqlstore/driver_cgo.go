//go:build cgo

package sqlstore

import _ "github.com/mattn/go-sqlite3" // the driver "sqlite3"

const driverName = "sqlite3"

// pragmas are the connection's settings in the driver's own form.
const pragmas = "_txlock=immediate&_busy_timeout=5000&_foreign_keys=1&_synchronous=NORMAL&_journal_mode=WAL"
