package vfs

// hostNames says that names are checked by windowsTakes.
const hostNames = true
