package dav

import (
	"github.com/gantryhq/gantry/internal/session"
)

// liveProp is a property that the server knows by itself; zero is none of them.
type liveProp uint8

const (
	propNone liveProp = iota
	propCreationDate
	propDisplayName
	propContentLength
	propContentType
	propETag
	propLastModified
	propResourceType
	propSupportedLock
	propLockDiscovery
	propQuotaAvailable
	propQuotaUsed
	propWin32Modified
	propExecutable
	livePropEnd
)

// The namespaces that are not DAV: and that the server knows properties of.
const (
	win32Space  = "urn:schemas-microsoft-com:"
	apacheSpace = "http://apache.org/dav/props/"
)

// liveProps says of every live property its name, whether allprop shows it (RFC 4331 2 and clients that ask for
// nothing else leave some out), and whether a client may set it. Read-only.
var liveProps = [livePropEnd]struct {
	name     session.PropName
	all      bool
	settable bool
}{
	propCreationDate:   {session.PropName{Space: "DAV:", Local: "creationdate"}, true, false},
	propDisplayName:    {session.PropName{Space: "DAV:", Local: "displayname"}, true, true},
	propContentLength:  {session.PropName{Space: "DAV:", Local: "getcontentlength"}, true, false},
	propContentType:    {session.PropName{Space: "DAV:", Local: "getcontenttype"}, true, false},
	propETag:           {session.PropName{Space: "DAV:", Local: "getetag"}, true, false},
	propLastModified:   {session.PropName{Space: "DAV:", Local: "getlastmodified"}, true, true},
	propResourceType:   {session.PropName{Space: "DAV:", Local: "resourcetype"}, true, false},
	propSupportedLock:  {session.PropName{Space: "DAV:", Local: "supportedlock"}, true, false},
	propLockDiscovery:  {session.PropName{Space: "DAV:", Local: "lockdiscovery"}, true, false},
	propQuotaAvailable: {session.PropName{Space: "DAV:", Local: "quota-available-bytes"}, false, false},
	propQuotaUsed:      {session.PropName{Space: "DAV:", Local: "quota-used-bytes"}, false, false},
	propWin32Modified:  {session.PropName{Space: win32Space, Local: "Win32LastModifiedTime"}, false, true},
	propExecutable:     {session.PropName{Space: apacheSpace, Local: "executable"}, false, true},
}

// livePropOf finds a property by its name.
func livePropOf(space, local []byte) liveProp {
	for p := propNone + 1; p < livePropEnd; p++ {
		if n := &liveProps[p].name; n.Local == string(local) && n.Space == string(space) {
			return p
		}
	}
	return propNone
}

// propRef is a property that a client asks for.
type propRef struct {
	live liveProp
	name session.PropName
}

// find is what a PROPFIND asks for. Immutable once made: it is shared.
type find struct {
	kind  findKind
	props []propRef // of findProps; what findAll includes beside the rest

	dead, locks, quota bool // whether these must be looked up
}

type findKind uint8

const (
	findAll findKind = iota
	findNames
	findProps
)

// findDefault is what an empty body asks for (RFC 4918 9.1).
var findDefault = &find{kind: findAll, dead: true, locks: true}

// maxProps bounds the properties of one request (DAV-1).
const maxProps = 256

// parseFind reads the body of a PROPFIND.
func parseFind(body []byte) (*find, error) {
	if len(body) == 0 {
		return findDefault, nil
	}
	x, err := newXMLReader(body)
	if err != nil {
		return nil, err
	}
	if err := x.root(); err != nil {
		return nil, err
	}
	if !x.is("propfind") {
		return nil, xmlError("DAV:propfind was expected")
	}
	f := &find{}
	kinds := 0
	for {
		more, err := x.child()
		if err != nil {
			return nil, err
		}
		if !more {
			break
		}
		switch {
		case x.is("allprop"):
			f.kind = findAll
			kinds++
			err = x.skip()
		case x.is("propname"):
			f.kind = findNames
			kinds++
			err = x.skip()
		case x.is("prop"):
			f.kind = findProps
			kinds++
			f.props, err = propNames(x, f.props)
		case x.is("include"):
			f.props, err = propNames(x, f.props)
		default:
			err = x.skip() // RFC 4918 17: what is not known is not there
		}
		if err != nil {
			return nil, err
		}
	}
	if err := x.finish(); err != nil {
		return nil, err
	}
	if kinds != 1 {
		return nil, xmlError("one of DAV:prop, DAV:allprop and DAV:propname was expected")
	}
	f.dead = f.kind != findProps
	f.locks = f.kind == findAll
	for _, p := range f.props {
		f.dead = f.dead || p.live == propNone || p.live == propDisplayName
		f.locks = f.locks || p.live == propLockDiscovery
		f.quota = f.quota || p.live == propQuotaAvailable || p.live == propQuotaUsed
	}
	return f, nil
}

// propNames reads the names within DAV:prop or DAV:include.
func propNames(x *xmlReader, list []propRef) ([]propRef, error) {
	for {
		more, err := x.child()
		if err != nil || !more {
			return list, err
		}
		if len(list) >= maxProps {
			return nil, xmlError("more than %d properties", maxProps)
		}
		p := propRef{live: livePropOf(x.space, x.local)}
		if p.live != propNone {
			p.name = liveProps[p.live].name
		} else {
			p.name = session.PropName{Space: string(x.space), Local: string(x.local)}
		}
		list = append(list, p)
		if err := x.skip(); err != nil {
			return nil, err
		}
	}
}
