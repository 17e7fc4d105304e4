package dav

import (
	"fmt"
	"strings"
)

// maxIfConditions bounds an If header; a client names a few locks and entity tags.
const maxIfConditions = 256

// ifHeader is an If header (RFC 4918 10.4): it holds if one of its lists does.
type ifHeader struct {
	lists []ifList
}

// ifList is a list of conditions on one resource, which all must hold.
type ifList struct {
	tag        string // the resource's URI; "" is the request's
	conditions []ifCondition
}

// ifCondition is a state token or an entity tag, one of them empty.
type ifCondition struct {
	not         bool
	token, etag string // a token without its "<" and ">", an etag with its quotes
}

// parseIf reads an If header. It never recurses (DAV-3).
func parseIf(s string) (ifHeader, error) {
	var h ifHeader
	p := ifParser{s: s}
	n := 0
	tag, tagged := "", false
	for p.space(); p.s != ""; p.space() {
		if p.s[0] == '<' {
			if len(h.lists) > 0 && !tagged {
				return h, p.error("a resource after lists without one")
			}
			var err error
			if tag, err = p.coded(); err != nil {
				return h, err
			}
			tagged = true
			if p.space(); p.s == "" || p.s[0] != '(' {
				return h, p.error("a resource without a list")
			}
		}
		if p.s[0] != '(' {
			return h, p.error("a list was expected")
		}
		p.s = p.s[1:]
		l := ifList{tag: tag}
		for p.space(); p.s == "" || p.s[0] != ')'; p.space() {
			if n++; n > maxIfConditions {
				return h, p.error("too many conditions")
			}
			c, err := p.condition()
			if err != nil {
				return h, err
			}
			l.conditions = append(l.conditions, c)
		}
		if len(l.conditions) == 0 {
			return h, p.error("an empty list")
		}
		p.s = p.s[1:]
		h.lists = append(h.lists, l)
	}
	if len(h.lists) == 0 {
		return h, p.error("no list")
	}
	return h, nil
}

type ifParser struct{ s string }

func (p *ifParser) space() { p.s = strings.TrimLeft(p.s, " \t") }

func (p *ifParser) error(text string) error {
	return fmt.Errorf("If header: %s at %.40q", text, p.s)
}

// coded reads <URI>.
func (p *ifParser) coded() (string, error) {
	end := strings.IndexByte(p.s, '>')
	if end < 2 || strings.ContainsAny(p.s[1:end], "< \t\"") {
		return "", p.error("bad URI")
	}
	uri := p.s[1:end]
	p.s = p.s[end+1:]
	return uri, nil
}

func (p *ifParser) condition() (ifCondition, error) {
	var c ifCondition
	var err error
	if len(p.s) >= 3 && strings.EqualFold(p.s[:3], "not") {
		c.not = true
		p.s = p.s[3:]
		p.space()
	}
	switch {
	case p.s == "":
		return c, p.error("no end")
	case p.s[0] == '<':
		c.token, err = p.coded()
	case p.s[0] == '[':
		c.etag, err = p.entityTag()
	default:
		err = p.error("a state token or an entity tag was expected")
	}
	return c, err
}

// entityTag reads ["etag"]. The tag may hold brackets, but no quote.
func (p *ifParser) entityTag() (string, error) {
	s := strings.TrimLeft(p.s[1:], " \t")
	weak := ""
	if t, ok := strings.CutPrefix(s, "W/"); ok {
		s, weak = t, "W/"
	}
	if s == "" || s[0] != '"' {
		return "", p.error("bad entity tag")
	}
	end := strings.IndexByte(s[1:], '"')
	if end < 0 {
		return "", p.error("bad entity tag")
	}
	tag := weak + s[:end+2]
	s = strings.TrimLeft(s[end+2:], " \t")
	if s == "" || s[0] != ']' {
		return "", p.error("bad entity tag")
	}
	p.s = s[1:]
	return tag, nil
}

// String is the header as parseIf reads it.
func (h ifHeader) String() string {
	var b strings.Builder
	for i, l := range h.lists {
		if l.tag != "" && (i == 0 || h.lists[i-1].tag != l.tag) {
			b.WriteString("<" + l.tag + "> ")
		}
		b.WriteByte('(')
		for j, c := range l.conditions {
			if j > 0 {
				b.WriteByte(' ')
			}
			if c.not {
				b.WriteString("Not ")
			}
			if c.token != "" {
				b.WriteString("<" + c.token + ">")
			} else {
				b.WriteString("[" + c.etag + "]")
			}
		}
		b.WriteString(") ")
	}
	return strings.TrimRight(b.String(), " ")
}

// tokens are the state tokens that the request submits: all that the header names (RFC 4918 10.4.1).
func (h ifHeader) tokens() []string {
	var list []string
	for _, l := range h.lists {
		for _, c := range l.conditions {
			if c.token != "" {
				list = append(list, c.token)
			}
		}
	}
	return list
}

// ifState is what a resource is, for the conditions on it.
type ifState struct {
	etag   string   // "" if nothing stands there
	tokens []string // of the locks that cover it
}

// holds evaluates the header. state tells of the resource of a tag, "" for the request's; it is asked once for a run of
// lists on one resource.
func (h ifHeader) holds(state func(tag string) (ifState, error)) (bool, error) {
	var st ifState
	for i, l := range h.lists {
		if i == 0 || h.lists[i-1].tag != l.tag {
			var err error
			if st, err = state(l.tag); err != nil {
				return false, err
			}
		}
		if l.holds(&st) {
			return true, nil
		}
	}
	return false, nil
}

func (l *ifList) holds(st *ifState) bool {
	for _, c := range l.conditions {
		match := false
		if c.etag != "" {
			// RFC 4918 10.4.4 with RFC 9110 8.8.3.2: the strong comparison, for what depends on it may be a write.
			match = c.etag == st.etag && !strings.HasPrefix(c.etag, "W/")
		} else {
			for _, t := range st.tokens {
				match = match || t == c.token
			}
		}
		if match == c.not {
			return false
		}
	}
	return true
}
