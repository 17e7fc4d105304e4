package dav

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Bounds of a request's XML (DAV-1).
const (
	maxXMLBytes      = 1 << 20
	maxXMLDepth      = 32
	maxXMLElements   = 8192
	maxXMLAttributes = 32 // of one element, namespace declarations among them
	maxXMLBindings   = 128
)

// errXML is the kind of every error of a request's XML.
var errXML = errors.New("XML")

func xmlError(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{errXML}, args...)...)
}

// xmlKind says what next has found.
type xmlKind uint8

const (
	xmlEOF xmlKind = iota
	xmlStart
	xmlEnd
	xmlText
)

// xmlAttr is an attribute other than a namespace declaration.
type xmlAttr struct {
	space, prefix, local []byte
	value                []byte
}

// binding is a namespace declaration in scope. An empty prefix is the default namespace.
type binding struct {
	prefix, uri []byte
	depth       int // of the element that declares it
}

// xmlReader is a reader of small documents with namespaces: XML 1.0 without a document type, and so without
// entities but the five. What it gives are slices of the document, or of buffers that live until the next call.
type xmlReader struct {
	b []byte
	i int

	elements int
	open     [][]byte // the names of the open elements, as they are written
	bound    []binding
	langs    []binding // prefix is unused; uri is an xml:lang
	closing  bool      // the element just started is empty: its end comes next
	ended    bool      // the root element has been read

	// The token of the last next. Text may be empty.
	space, prefix, local []byte
	attrs                []xmlAttr
	declared             []binding // the namespace declarations of the start tag
	text                 []byte
	scratch              []byte
}

// xmlSpace is what the prefix xml is bound to.
const xmlSpace = "http://www.w3.org/XML/1998/namespace"

// newXMLReader checks the bytes of a document; UTF-16 is made UTF-8 (RFC 4918 8.2).
func newXMLReader(doc []byte) (*xmlReader, error) {
	if len(doc) > maxXMLBytes {
		return nil, xmlError("longer than %d bytes", maxXMLBytes)
	}
	doc, wide, err := asUTF8(doc)
	if err != nil {
		return nil, err
	}
	if err := checkChars(doc); err != nil {
		return nil, err
	}
	r := &xmlReader{b: doc}
	if err := r.declaration(wide); err != nil {
		return nil, err
	}
	return r, nil
}

// asUTF8 takes the byte order mark off, and makes UTF-8 of UTF-16.
func asUTF8(doc []byte) ([]byte, bool, error) {
	var big bool
	switch {
	case bytes.HasPrefix(doc, []byte{0xef, 0xbb, 0xbf}):
		return doc[3:], false, nil
	case bytes.HasPrefix(doc, []byte{0xfe, 0xff}):
		big = true
	case bytes.HasPrefix(doc, []byte{0xff, 0xfe}):
	default:
		return doc, false, nil
	}
	doc = doc[2:]
	if len(doc)%2 != 0 {
		return nil, true, xmlError("half a character of UTF-16 at the end")
	}
	out := make([]byte, 0, len(doc))
	for i := 0; i < len(doc); i += 2 {
		c := rune(doc[i+1])<<8 | rune(doc[i])
		if big {
			c = rune(doc[i])<<8 | rune(doc[i+1])
		}
		if utf16.IsSurrogate(c) {
			if i += 2; i >= len(doc) {
				return nil, true, xmlError("half a surrogate pair")
			}
			d := rune(doc[i+1])<<8 | rune(doc[i])
			if big {
				d = rune(doc[i])<<8 | rune(doc[i+1])
			}
			if c = utf16.DecodeRune(c, d); c == utf8.RuneError {
				return nil, true, xmlError("half a surrogate pair")
			}
		}
		out = utf8.AppendRune(out, c)
	}
	return out, true, nil
}

// checkChars refuses what no XML document holds: bad UTF-8 and control characters.
func checkChars(doc []byte) error {
	ascii := true
	for _, c := range doc {
		if c < ' ' && c != '\t' && c != '\n' && c != '\r' {
			return xmlError("control character %#x", c)
		}
		ascii = ascii && c < utf8.RuneSelf
	}
	if ascii {
		return nil
	}
	if !utf8.Valid(doc) {
		return xmlError("not UTF-8")
	}
	if bytes.Contains(doc, []byte("\uFFFE")) || bytes.Contains(doc, []byte("\uFFFF")) {
		return xmlError("a character that XML does not have")
	}
	return nil
}

// isChar is the production Char.
func isChar(c rune) bool {
	return c == '\t' || c == '\n' || c == '\r' || c >= ' ' && c < 0xd800 || c >= 0xe000 && c < 0xfffe || c >= 0x10000 && c <= utf8.MaxRune
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }

// declaration reads <?xml … ?>, of which the encoding matters.
func (r *xmlReader) declaration(wide bool) error {
	if !bytes.HasPrefix(r.b, []byte("<?xml")) || len(r.b) < 6 || !isSpace(r.b[5]) {
		return nil
	}
	end := bytes.Index(r.b, []byte("?>"))
	if end < 0 {
		return xmlError("the declaration has no end")
	}
	decl := string(r.b[5:end])
	r.i = end + 2
	_, enc, ok := strings.Cut(decl, "encoding")
	if !ok {
		return nil
	}
	enc, ok = strings.CutPrefix(strings.TrimLeft(enc, " \t\r\n"), "=")
	enc = strings.TrimLeft(enc, " \t\r\n")
	if !ok || len(enc) < 2 || enc[0] != '"' && enc[0] != '\'' {
		return xmlError("bad declaration")
	}
	name, _, ok := strings.Cut(enc[1:], enc[:1])
	switch up := strings.ToUpper(name); {
	case !ok:
		return xmlError("bad declaration")
	case up == "UTF-8", up == "UTF8", up == "US-ASCII", up == "ASCII":
		return nil
	case wide && strings.HasPrefix(up, "UTF-16"):
		return nil
	}
	return xmlError("encoding %.40q: only UTF-8 and UTF-16 are read", name)
}

// next reads one token. Comments and processing instructions are left out; text may come in several pieces.
func (r *xmlReader) next() (xmlKind, error) {
	if r.closing {
		r.closing = false
		return r.end()
	}
	for {
		if r.i >= len(r.b) {
			if len(r.open) > 0 || !r.ended {
				return xmlEOF, xmlError("ends too early")
			}
			return xmlEOF, nil
		}
		rest := r.b[r.i:]
		if rest[0] != '<' && len(r.open) == 0 {
			if !isSpace(rest[0]) {
				return xmlEOF, xmlError("text outside of the root element")
			}
			r.i++
			continue
		}
		if rest[0] != '<' {
			return r.characters(rest)
		}
		if len(rest) < 2 {
			return xmlEOF, xmlError("ends too early")
		}
		switch rest[1] {
		case '/':
			return r.endTag(rest)
		case '?':
			m, n := nameLen(rest[2:]), bytes.Index(rest, []byte("?>"))
			if m == 0 || n < 2+m || n > 2+m && !isSpace(rest[2+m]) || bytes.EqualFold(rest[2:2+m], []byte("xml")) {
				return xmlEOF, xmlError("bad processing instruction")
			}
			r.i += n + 2
		case '!':
			switch {
			case bytes.HasPrefix(rest, []byte("<!--")):
				n := bytes.Index(rest[4:], []byte("--"))
				if n < 0 || !bytes.HasPrefix(rest[4+n:], []byte("-->")) {
					return xmlEOF, xmlError("bad comment")
				}
				r.i += 4 + n + 3
			case bytes.HasPrefix(rest, []byte("<![CDATA[")) && len(r.open) > 0:
				n := bytes.Index(rest, []byte("]]>"))
				if n < 0 {
					return xmlEOF, xmlError("CDATA has no end")
				}
				r.i += n + 3
				r.text = r.lines(rest[9:n])
				return xmlText, nil
			default:
				return xmlEOF, xmlError("a document type or a markup declaration is not read") // DAV-1
			}
		default:
			return r.startTag(rest)
		}
	}
}

// characters reads text up to the next markup.
func (r *xmlReader) characters(rest []byte) (xmlKind, error) {
	n := bytes.IndexByte(rest, '<')
	if n < 0 {
		n = len(rest)
	}
	raw := rest[:n]
	r.i += n
	if bytes.Contains(raw, []byte("]]>")) {
		return xmlEOF, xmlError("]]> in text")
	}
	text, err := r.decode(raw, false)
	r.text = text
	return xmlText, err
}

// lines makes every line end "\n".
func (r *xmlReader) lines(raw []byte) []byte {
	if bytes.IndexByte(raw, '\r') < 0 {
		return raw
	}
	r.scratch = appendLines(r.scratch[:0], raw)
	return r.scratch
}

func appendLines(b, raw []byte) []byte {
	for i, c := range raw {
		if c == '\r' {
			if i+1 < len(raw) && raw[i+1] == '\n' {
				continue
			}
			c = '\n'
		}
		b = append(b, c)
	}
	return b
}

// decode resolves references and line ends; in an attribute white space becomes a space.
func (r *xmlReader) decode(raw []byte, attr bool) ([]byte, error) {
	plain := bytes.IndexByte(raw, '&') < 0 && bytes.IndexByte(raw, '\r') < 0
	if plain && (!attr || bytes.IndexByte(raw, '\n') < 0 && bytes.IndexByte(raw, '\t') < 0) {
		return raw, nil
	}
	var out []byte
	if !attr {
		out = r.scratch[:0]
	}
	for i := 0; i < len(raw); i++ {
		c := raw[i]
		switch {
		case c == '&':
			n := bytes.IndexByte(raw[i:min(len(raw), i+16)], ';')
			if n < 0 {
				return nil, xmlError("bad reference")
			}
			d, err := reference(raw[i+1 : i+n])
			if err != nil {
				return nil, err
			}
			out = utf8.AppendRune(out, d)
			i += n
			continue
		case c == '\r' && i+1 < len(raw) && raw[i+1] == '\n':
			continue
		case c == '\r':
			c = '\n'
		}
		if attr && isSpace(c) {
			c = ' '
		}
		out = append(out, c)
	}
	if !attr {
		r.scratch = out
	}
	return out, nil
}

// reference is the character of "lt" or "#x3c". No other entity exists (DAV-1).
func reference(name []byte) (rune, error) {
	switch string(name) {
	case "lt":
		return '<', nil
	case "gt":
		return '>', nil
	case "amp":
		return '&', nil
	case "apos":
		return '\'', nil
	case "quot":
		return '"', nil
	}
	if len(name) < 2 || name[0] != '#' {
		return 0, xmlError("entity %.20q", name)
	}
	digits, base := name[1:], rune(10)
	if digits[0] == 'x' {
		digits, base = digits[1:], 16
	}
	var n rune
	for _, c := range digits {
		var d rune
		switch {
		case c >= '0' && c <= '9':
			d = rune(c - '0')
		case base == 16 && c >= 'a' && c <= 'f':
			d = rune(c-'a') + 10
		case base == 16 && c >= 'A' && c <= 'F':
			d = rune(c-'A') + 10
		default:
			return 0, xmlError("reference %.20q", name)
		}
		if n = n*base + d; n > utf8.MaxRune {
			return 0, xmlError("reference %.20q", name)
		}
	}
	if len(digits) == 0 || !isChar(n) {
		return 0, xmlError("reference %.20q", name)
	}
	return n, nil
}

// nameLen is the length of the Name without colons (NCName) that b begins with.
func nameLen(b []byte) int {
	for i := 0; i < len(b); {
		c := b[i]
		if c < utf8.RuneSelf {
			switch {
			case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '_':
			case i > 0 && (c >= '0' && c <= '9' || c == '-' || c == '.'):
			default:
				return i
			}
			i++
			continue
		}
		d, n := utf8.DecodeRune(b[i:])
		if !isNameStart(d) && !(i > 0 && (d == 0xb7 || d >= 0x300 && d <= 0x36f || d == 0x203f || d == 0x2040)) {
			return i
		}
		i += n
	}
	return len(b)
}

// isNameStart is the production NameStartChar beyond ASCII.
func isNameStart(c rune) bool {
	return c >= 0xc0 && c <= 0x2ff && c != 0xd7 && c != 0xf7 || c >= 0x370 && c <= 0x1fff && c != 0x37e ||
		c == 0x200c || c == 0x200d || c >= 0x2070 && c <= 0x218f || c >= 0x2c00 && c <= 0x2fef ||
		c >= 0x3001 && c <= 0xd7ff || c >= 0xf900 && c <= 0xfdcf || c >= 0xfdf0 && c <= 0xfffd || c >= 0x10000 && c <= 0xeffff
}

// qname reads a name and its prefix.
func qname(b []byte) (prefix, local []byte, n int, err error) {
	n = nameLen(b)
	if n == 0 {
		return nil, nil, 0, xmlError("a name was expected")
	}
	local = b[:n]
	if n < len(b) && b[n] == ':' {
		m := nameLen(b[n+1:])
		if m == 0 {
			return nil, nil, 0, xmlError("a name was expected")
		}
		prefix, local = local, b[n+1:n+1+m]
		n += 1 + m
	}
	return prefix, local, n, nil
}

// startTag reads <name …> or <name …/>.
func (r *xmlReader) startTag(rest []byte) (xmlKind, error) {
	if r.ended {
		return xmlEOF, xmlError("a second root element")
	}
	if r.elements++; r.elements > maxXMLElements {
		return xmlEOF, xmlError("more than %d elements", maxXMLElements)
	}
	if len(r.open) >= maxXMLDepth {
		return xmlEOF, xmlError("deeper than %d elements", maxXMLDepth)
	}
	prefix, local, n, err := qname(rest[1:])
	if err != nil {
		return xmlEOF, err
	}
	n++
	raw := rest[1:n]
	r.open = append(r.open, raw)
	r.attrs, r.declared = r.attrs[:0], r.declared[:0]
	for {
		m := n
		for n < len(rest) && isSpace(rest[n]) {
			n++
		}
		if n >= len(rest) {
			return xmlEOF, xmlError("ends too early")
		}
		if rest[n] == '>' {
			n++
			break
		}
		if rest[n] == '/' {
			if n+1 >= len(rest) || rest[n+1] != '>' {
				return xmlEOF, xmlError("bad tag")
			}
			r.closing = true
			n += 2
			break
		}
		if m == n {
			return xmlEOF, xmlError("bad tag")
		}
		if n, err = r.attribute(rest, n); err != nil {
			return xmlEOF, err
		}
	}
	r.i += n
	return xmlStart, r.resolve(prefix, local)
}

// attribute reads name="value" at rest[n:].
func (r *xmlReader) attribute(rest []byte, n int) (int, error) {
	if len(r.attrs)+len(r.declared) >= maxXMLAttributes {
		return 0, xmlError("more than %d attributes", maxXMLAttributes)
	}
	prefix, local, m, err := qname(rest[n:])
	if err != nil {
		return 0, err
	}
	n += m
	skip := func() {
		for n < len(rest) && isSpace(rest[n]) {
			n++
		}
	}
	skip()
	if n >= len(rest) || rest[n] != '=' {
		return 0, xmlError("an attribute without a value")
	}
	n++
	skip()
	if n >= len(rest) || rest[n] != '"' && rest[n] != '\'' {
		return 0, xmlError("an attribute without a value")
	}
	end := bytes.IndexByte(rest[n+1:], rest[n])
	if end < 0 {
		return 0, xmlError("an attribute has no end")
	}
	raw := rest[n+1 : n+1+end]
	if bytes.IndexByte(raw, '<') >= 0 {
		return 0, xmlError("< in an attribute")
	}
	value, err := r.decode(raw, true)
	if err != nil {
		return 0, err
	}
	n += end + 2
	switch {
	case string(prefix) == "xmlns":
		return n, r.declare(local, value)
	case len(prefix) == 0 && string(local) == "xmlns":
		return n, r.declare(nil, value)
	}
	r.attrs = append(r.attrs, xmlAttr{prefix: prefix, local: local, value: value})
	return n, nil
}

// declare notes a namespace declaration (Namespaces in XML 1.0, 3 and 5).
func (r *xmlReader) declare(prefix, uri []byte) error {
	switch {
	case string(prefix) == "xmlns", string(uri) == "http://www.w3.org/2000/xmlns/",
		(string(prefix) == "xml") != (string(uri) == xmlSpace):
		return xmlError("a reserved namespace is declared")
	case len(prefix) > 0 && len(uri) == 0:
		return xmlError("the prefix %.40q is bound to nothing", prefix)
	case len(r.bound) >= maxXMLBindings:
		return xmlError("more than %d namespaces", maxXMLBindings)
	}
	for _, d := range r.declared {
		if bytes.Equal(d.prefix, prefix) {
			return xmlError("a namespace is declared twice")
		}
	}
	d := binding{prefix, uri, len(r.open)}
	r.declared = append(r.declared, d)
	r.bound = append(r.bound, d)
	return nil
}

// resolve finds the namespaces of the start tag's names.
func (r *xmlReader) resolve(prefix, local []byte) (err error) {
	r.prefix, r.local = prefix, local
	if r.space, err = r.lookup(prefix); err != nil {
		return err
	}
	for i := range r.attrs {
		a := &r.attrs[i]
		if len(a.prefix) > 0 {
			if a.space, err = r.lookup(a.prefix); err != nil {
				return err
			}
		}
		for _, b := range r.attrs[:i] {
			if bytes.Equal(a.local, b.local) && bytes.Equal(a.space, b.space) {
				return xmlError("an attribute is there twice")
			}
		}
		if string(a.space) == xmlSpace && string(a.local) == "lang" {
			r.langs = append(r.langs, binding{uri: a.value, depth: len(r.open)})
		}
	}
	return nil
}

func (r *xmlReader) lookup(prefix []byte) ([]byte, error) {
	for i := len(r.bound) - 1; i >= 0; i-- {
		if bytes.Equal(r.bound[i].prefix, prefix) {
			return r.bound[i].uri, nil
		}
	}
	switch string(prefix) {
	case "":
		return nil, nil
	case "xml":
		return []byte(xmlSpace), nil
	}
	return nil, xmlError("the prefix %.40q is not declared", prefix)
}

// lang is the xml:lang in scope.
func (r *xmlReader) lang() string {
	if len(r.langs) == 0 {
		return ""
	}
	return string(r.langs[len(r.langs)-1].uri)
}

// endTag reads </name>.
func (r *xmlReader) endTag(rest []byte) (xmlKind, error) {
	if len(r.open) == 0 {
		return xmlEOF, xmlError("an end without a start")
	}
	name := r.open[len(r.open)-1]
	if !bytes.HasPrefix(rest[2:], name) {
		return xmlEOF, xmlError("%.40q is not closed", name)
	}
	n := 2 + len(name)
	for n < len(rest) && isSpace(rest[n]) {
		n++
	}
	if n >= len(rest) || rest[n] != '>' {
		return xmlEOF, xmlError("%.40q is not closed", name)
	}
	r.i += n + 1
	return r.end()
}

func (r *xmlReader) end() (xmlKind, error) {
	depth := len(r.open)
	for len(r.bound) > 0 && r.bound[len(r.bound)-1].depth == depth {
		r.bound = r.bound[:len(r.bound)-1]
	}
	for len(r.langs) > 0 && r.langs[len(r.langs)-1].depth == depth {
		r.langs = r.langs[:len(r.langs)-1]
	}
	r.open = r.open[:depth-1]
	r.ended = depth == 1
	return xmlEnd, nil
}

// is reports whether the start tag is an element of the DAV: namespace.
func (r *xmlReader) is(local string) bool {
	return string(r.space) == "DAV:" && string(r.local) == local
}

// root reads up to the start of the root element.
func (r *xmlReader) root() error {
	kind, err := r.next()
	if err == nil && kind != xmlStart {
		err = xmlError("there is no element")
	}
	return err
}

// child reads up to the next child element of the open element; false is that one's end. Text between them must be
// white space.
func (r *xmlReader) child() (bool, error) {
	for {
		kind, err := r.next()
		switch {
		case err != nil:
			return false, err
		case kind == xmlStart:
			return true, nil
		case kind == xmlEnd:
			return false, nil
		case kind == xmlText && len(bytes.TrimLeft(r.text, " \t\n\r")) > 0:
			return false, xmlError("text where elements are expected")
		}
	}
}

// skip reads up to the end of the element that has just been started.
func (r *xmlReader) skip() error {
	for depth := len(r.open); len(r.open) >= depth; {
		if _, err := r.next(); err != nil {
			return err
		}
	}
	return nil
}

// finish reads what may follow the root element.
func (r *xmlReader) finish() error {
	kind, err := r.next()
	if err == nil && kind != xmlEOF {
		err = xmlError("something follows the root element")
	}
	return err
}

// content reads the element that has just been started up to its end, and appends what is in it to b as XML that
// stands for itself: what its names need of namespaces declared outside is declared in it.
func (r *xmlReader) content(b []byte) ([]byte, error) {
	var written []binding
	outer := len(r.open)
	for {
		kind, err := r.next()
		if err != nil {
			return b, err
		}
		switch kind {
		case xmlText:
			b = appendXMLText(b, r.text)
		case xmlEnd:
			if len(r.open) < outer {
				return b, nil
			}
			for n := len(written); n > 0 && written[n-1].depth > len(r.open); n = len(written) {
				written = written[:n-1]
			}
			// The name of the element that ended is not kept by next; it is still in the buffer of names.
			b = append(b, '<', '/')
			b = append(append(b, r.open[:len(r.open)+1][len(r.open)]...), '>')
		case xmlStart:
			b, written = r.appendStart(b, written)
		}
		if len(b) > maxXMLBytes {
			return b, xmlError("longer than %d bytes", maxXMLBytes)
		}
	}
}

// appendStart writes the start tag that next has read, given what is declared where it is written to.
func (r *xmlReader) appendStart(b []byte, written []binding) ([]byte, []binding) {
	depth := len(r.open)
	b = append(append(b, '<'), r.open[depth-1]...)
	declare := func(prefix, uri []byte) {
		b = append(b, " xmlns"...)
		if len(prefix) > 0 {
			b = append(append(b, ':'), prefix...)
		}
		b = append(appendXMLAttr(append(b, '=', '"'), uri), '"')
		written = append(written, binding{prefix, uri, depth})
	}
	need := func(prefix, uri []byte) {
		if string(prefix) == "xml" {
			return
		}
		for i := len(written) - 1; i >= 0; i-- {
			if bytes.Equal(written[i].prefix, prefix) {
				if !bytes.Equal(written[i].uri, uri) {
					declare(prefix, uri)
				}
				return
			}
		}
		if len(prefix) > 0 || len(uri) > 0 {
			declare(prefix, uri)
		}
	}
	for _, d := range r.declared {
		if string(d.prefix) != "xml" {
			declare(d.prefix, d.uri)
		}
	}
	need(r.prefix, r.space)
	for _, a := range r.attrs {
		if len(a.prefix) > 0 {
			need(a.prefix, a.space)
		}
	}
	for _, a := range r.attrs {
		b = append(b, ' ')
		if len(a.prefix) > 0 {
			b = append(append(b, a.prefix...), ':')
		}
		b = append(append(b, a.local...), '=', '"')
		b = append(appendXMLAttr(b, a.value), '"')
	}
	return append(b, '>'), written
}
