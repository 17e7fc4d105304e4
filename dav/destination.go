package dav

import (
	"strings"

	"github.com/gantryhq/gantry/vfs"
)

// Failures of a Destination.
var (
	errNoDestination   = fail(400, "A Destination is needed")
	errBadDestination  = fail(400, "The Destination is not a valid URI")
	errElsewhere       = fail(502, "The Destination is on another server") // RFC 4918 9.8.5, 9.9.4
	errOntoItself      = fail(403, "The Destination is the source itself")
	errIntoItself      = fail(403, "The Destination is inside of the source")
	errAroundItself    = fail(403, "The Destination holds the source")
	errOverwriteHeader = fail(400, "Overwrite must be T or F")
	errDepthHeader     = fail(400, "Depth must be 0, 1 or infinity, and one that the method takes")
)

// destination is what the Destination header names (RFC 4918 10.3): a path below the binding's prefix on the authority
// that the request itself was sent to (DAV-4).
func (r *request) destination() (p vfs.Path, err error) {
	raw := r.header("Destination")
	if raw == "" {
		return p, errNoDestination
	}
	return parseReference(strings.TrimSpace(raw), r.host, r.prefix)
}

// parseReference reads a Simple-ref (RFC 4918 8.3) that must mean a resource below prefix on host. What it gives is
// what the same text would be as a request target (PATH-1).
func parseReference(raw, host, prefix string) (p vfs.Path, err error) {
	if raw == "*" || strings.HasPrefix(raw, "//") {
		return p, errBadDestination
	}
	t, err := parseTarget(raw, "")
	if err != nil {
		return p, errBadDestination
	}
	// Behind a proxy that ends TLS the scheme differs from ours; the authority is what counts.
	if t.host != "" && !sameAuthority(t.host, t.scheme, host) {
		return p, errElsewhere
	}
	if t.query != "" {
		return p, errBadDestination
	}
	path := raw
	if t.host != "" {
		_, path, _ = strings.Cut(raw, "://")
		if i := strings.IndexByte(path, '/'); i >= 0 {
			path = path[i:]
		} else {
			path = "/"
		}
	}
	path, _, _ = strings.Cut(path, "?")
	p, _, err = parsePath(path, prefix)
	if err != nil {
		if statusFor(err) == 404 {
			return p, errElsewhere // outside of what this server serves here
		}
		return p, errBadDestination
	}
	return p, nil
}

// sameAuthority compares host[:port] with the Host of the request. The default ports of both schemes are left out: a
// proxy may speak another scheme to us than the client does.
func sameAuthority(a, scheme, host string) bool {
	return strings.EqualFold(bareHost(a, scheme), bareHost(host, scheme))
}

func bareHost(h, scheme string) string {
	port := ":80"
	if scheme == "https" {
		port = ":443"
	}
	return strings.TrimSuffix(strings.TrimSuffix(h, port), ":")
}

// overwrite is the Overwrite header (RFC 4918 10.6): T where it is absent.
func (r *request) overwrite() (bool, error) {
	switch strings.TrimSpace(r.header("Overwrite")) {
	case "", "T", "t":
		return true, nil
	case "F", "f":
		return false, nil
	}
	return false, errOverwriteHeader
}

// depth is a Depth header.
type depth uint8

const (
	depthZero depth = iota
	depthOne
	depthInfinity
)

// depth reads the Depth header (RFC 4918 10.2); infinity where it is absent.
func (r *request) depth() (depth, error) {
	switch h := strings.TrimSpace(r.header("Depth")); {
	case h == "0":
		return depthZero, nil
	case h == "1":
		return depthOne, nil
	case h == "", strings.EqualFold(h, "infinity"):
		return depthInfinity, nil
	}
	return 0, errDepthHeader
}
