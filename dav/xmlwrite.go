package dav

import (
	"unicode/utf8"
)

// appendXMLText writes text into an element. What XML cannot hold, bad UTF-8 and control characters, is U+FFFD.
func appendXMLText[T string | []byte](b []byte, s T) []byte { return appendXML(b, s, false) }

// appendXMLAttr writes the value of an attribute within double quotes.
func appendXMLAttr[T string | []byte](b []byte, s T) []byte { return appendXML(b, s, true) }

// xmlPlain are the bytes that stand for themselves in text and in attributes. Read-only.
var xmlPlain = func() (t [256]bool) {
	for c := ' '; c < utf8.RuneSelf; c++ {
		t[c] = c != '&' && c != '<' && c != '>' && c != '"'
	}
	return t
}()

func appendXML[T string | []byte](b []byte, s T, attr bool) []byte {
	from := 0
	for i := 0; i < len(s); {
		c := s[i]
		if xmlPlain[c] {
			i++
			continue
		}
		var esc string
		n := 1
		switch {
		case c >= utf8.RuneSelf:
			var d rune
			if d, n = utf8.DecodeRuneInString(string(s[i:min(len(s), i+utf8.UTFMax)])); (d != utf8.RuneError || n > 1) && isChar(d) {
				i += n
				continue
			}
			esc = "\uFFFD"
		case c == '&':
			esc = "&amp;"
		case c == '<':
			esc = "&lt;"
		case c == '>':
			esc = "&gt;"
		case c == '\r':
			esc = "&#13;"
		case attr && c == '"':
			esc = "&quot;"
		case attr && c == '\n':
			esc = "&#10;"
		case attr && c == '\t':
			esc = "&#9;"
		case c < ' ' && c != '\t' && c != '\n':
			esc = "\uFFFD"
		default:
			i++
			continue
		}
		b = append(append(b, s[from:i]...), esc...)
		i += n
		from = i
	}
	return append(b, s[from:]...)
}

// appendStatusLine writes what stands in DAV:status.
func appendStatusLine(b []byte, code int) []byte {
	b = append(b, "HTTP/1.1 "...)
	b = append(b, byte('0'+code/100%10), byte('0'+code/10%10), byte('0'+code%10), ' ')
	return append(b, statusText(code)...)
}
