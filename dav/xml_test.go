package dav

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/gantryhq/gantry/internal/session"
)

// spell reads a document as a list of its tokens.
func spell(doc string) (string, error) {
	x, err := newXMLReader([]byte(doc))
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for {
		kind, err := x.next()
		if err != nil {
			return b.String(), err
		}
		switch kind {
		case xmlEOF:
			return b.String(), nil
		case xmlStart:
			fmt.Fprintf(&b, "<{%s}%s", x.space, x.local)
			for _, a := range x.attrs {
				fmt.Fprintf(&b, " {%s}%s=%q", a.space, a.local, a.value)
			}
			b.WriteString(">")
		case xmlEnd:
			b.WriteString("</>")
		case xmlText:
			fmt.Fprintf(&b, "%q", x.text)
		}
	}
}

func TestXMLReader(t *testing.T) {
	for _, c := range []struct{ doc, want string }{
		{`<a/>`, `<{}a></>`},
		{`<?xml version="1.0" encoding="utf-8" ?>` + "\n<a >\n</a >\n", `<{}a>"\n"</>`},
		{"\xef\xbb\xbf<a/>", `<{}a></>`},
		{`<D:a xmlns:D="DAV:"><D:b/></D:a>`, `<{DAV:}a><{DAV:}b></></>`},
		{`<a xmlns="DAV:"><b xmlns=""/><c x='1' xml:lang="en"/></a>`, `<{DAV:}a><{}b></><{DAV:}c {}x="1" {http://www.w3.org/XML/1998/namespace}lang="en"></></>`},
		{`<a xmlns:p="u"><b xmlns:p="v"><p:c/></b><p:c/></a>`, `<{}a><{}b><{v}c></></><{u}c></></>`},
		{`<p:a p:q="&lt;&#65;&#x42;&amp;" xmlns:p="u"/>`, `<{u}a {u}q="<AB&"></>`},
		{"<a>x&amp;y\r\nz\rw<!-- no --><?pi no?><![CDATA[<&]]></a>", `<{}a>"x&y\nz\nw""<&"</>`},
		{"<a b='1\r\n2\t3'/>", `<{}a {}b="1 2 3"></>`},
		{"<é><名/></é>", `<{}é><{}名></></>`},
		{`<!-- first --><a/><!-- last --> <?pi?>`, `<{}a></>`},
	} {
		got, err := spell(c.doc)
		if err != nil || got != c.want {
			t.Errorf("%q:\n got %s %v\nwant %s", c.doc, got, err, c.want)
		}
	}
}

func TestXMLReaderTakesUTF16(t *testing.T) {
	doc := `<?xml version="1.0" encoding="UTF-16"?><a>é𝄞</a>`
	for _, big := range []bool{false, true} {
		var b []byte
		for _, c := range append([]uint16{0xfeff}, utf16.Encode([]rune(doc))...) {
			if big {
				b = append(b, byte(c>>8), byte(c))
			} else {
				b = append(b, byte(c), byte(c>>8))
			}
		}
		if got, err := spell(string(b)); err != nil || got != `<{}a>"é𝄞"</>` {
			t.Errorf("big %v: %s %v", big, got, err)
		}
		if _, err := spell(string(b[:len(b)-1])); err == nil {
			t.Error("half a character was read")
		}
	}
}

func TestXMLReaderRefuses(t *testing.T) {
	deep := strings.Repeat("<a>", maxXMLDepth+1)
	for _, doc := range []string{
		"", " ", "x", "<", "<a", "<a>", "<a/><b/>", "<a/>x", "</a>", "<a></b>", "<a></aa>", "<ab></a>", "<a><b></a></b>",
		"<a b/>", "<a b=1/>", "<a b='1'c='2'/>", "<a b='1' b='2'/>", "<a b='<'/>", "<a b='1/>", "<1/>", "<a:/>", "<:a/>", "<a:b/>",
		`<a xmlns:p=""/>`, `<a xmlns:xmlns="u"/>`, `<a xmlns:xml="u"/>`, `<a xmlns:p="http://www.w3.org/XML/1998/namespace"/>`,
		`<a xmlns:p="u" xmlns:p="v"/>`, `<a xmlns:p="u" xmlns:q="u" p:x="1" q:x="2"/>`, `<a p:x="1"/>`,
		"<a>&nope;</a>", "<a>&#0;</a>", "<a>&#xD800;</a>", "<a>&#x110000;</a>", "<a>&#99999999999999999999;</a>", "<a>&lt</a>", "<a>&</a>", "<a>&#;</a>", "<a>&#x;</a>",
		"<a>]]></a>", "<a><!-- -- --></a>", "<a><!-- </a>", "<a><![CDATA[</a>", "<![CDATA[x]]><a/>", "<a><?xml version='1.0'?></a>", "<a><?XmL?></a>", "<a><?</a>", "<a><? ?></a>",
		"<a>\x00</a>", "<a>\x01</a>", "<a>\xff</a>", "<a>\xed\xa0\x80</a>", "<a>\uFFFE</a>",
		`<?xml version="1.0" encoding="latin1"?><a/>`, `<?xml version="1.0" encoding=?><a/>`, `<?xml version="1.0"`,
		`<!DOCTYPE a><a/>`, `<!doctype a><a/>`, // DAV-1
		deep + strings.Repeat("</a>", maxXMLDepth+1),
		"<a>" + strings.Repeat("<b/>", maxXMLElements) + "</a>",
	} {
		got, err := spell(doc)
		if !errors.Is(err, errXML) {
			t.Errorf("%.60q: %.60s %v", doc, got, err)
		}
	}
}

// TestXMLBombs: DAV-1. Neither entities that multiply, nor external ones, nor sheer numbers get anywhere.
func TestXMLBombs(t *testing.T) {
	var laughs strings.Builder
	laughs.WriteString(`<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY lol "lol">`)
	for i := 1; i < 10; i++ {
		fmt.Fprintf(&laughs, `<!ENTITY lol%d "%s">`, i, strings.Repeat(fmt.Sprintf("&lol%d;", i-1), 10))
	}
	laughs.WriteString(`]><propfind xmlns="DAV:"><prop>&lol9;</prop></propfind>`)
	var attrs, spaces strings.Builder
	for i := range 100_000 {
		fmt.Fprintf(&attrs, ` a%d=""`, i)
		fmt.Fprintf(&spaces, ` xmlns:a%d="u"`, i)
	}
	nested := ""
	for i := range 10 {
		nested += fmt.Sprintf(`<a xmlns:a%d="u" `, i)
		for j := range maxXMLAttributes - 1 {
			nested += fmt.Sprintf(` xmlns:b%d_%d="u"`, i, j)
		}
		nested += ">"
	}
	for name, doc := range map[string]string{
		"billion laughs":     laughs.String(),
		"external entity":    `<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><propfind xmlns="DAV:"><prop><a>&x;</a></prop></propfind>`,
		"external subset":    `<!DOCTYPE a SYSTEM "http://192.0.2.1/a.dtd"><propfind xmlns="DAV:"><allprop/></propfind>`,
		"100,000 properties": `<propfind xmlns="DAV:"><prop>` + strings.Repeat("<a/>", 100_000) + `</prop></propfind>`,
		"10,000 properties":  `<propfind xmlns="DAV:"><prop>` + strings.Repeat("<a/>", 10_000) + `</prop></propfind>`,
		"257 properties":     `<propfind xmlns="DAV:"><prop>` + strings.Repeat("<a/>", maxProps+1) + `</prop></propfind>`,
		"deep nesting":       `<propfind xmlns="DAV:"><prop>` + strings.Repeat("<a>", 100_000),
		"attributes":         `<propfind xmlns="DAV:"` + attrs.String() + `><allprop/></propfind>`,
		"namespaces":         `<propfind xmlns="DAV:"` + spaces.String() + `><allprop/></propfind>`,
		"nested namespaces":  nested,
		"long":               `<propfind xmlns="DAV:"><allprop/></propfind>` + strings.Repeat(" ", maxXMLBytes),
	} {
		if len(doc) > maxXMLBytes {
			doc = doc[:maxXMLBytes+1]
		}
		if _, err := parseFind([]byte(doc)); !errors.Is(err, errXML) {
			t.Errorf("%s: %v", name, err)
		}
	}
	full := `<propfind xmlns="DAV:"><prop>` + strings.Repeat("<a/>", maxProps) + `</prop></propfind>`
	if _, err := parseFind([]byte(full)); err != nil {
		t.Errorf("%d properties: %v", maxProps, err)
	}
}

// TestXMLContentStandsForItself: what is stored of a property means the same anywhere.
func TestXMLContentStandsForItself(t *testing.T) {
	for _, c := range []struct{ doc, want string }{
		{`<p>text &lt;&#233;</p>`, "text &lt;é"},
		{`<p xmlns="u"><a/></p>`, `<a xmlns="u"></a>`},
		{`<p xmlns:q="u"><q:a q:b="1"><q:c/></q:a><q:d/></p>`, `<q:a xmlns:q="u" q:b="1"><q:c></q:c></q:a><q:d xmlns:q="u"></q:d>`},
		{`<p xmlns="u"><a><b xmlns=""><c/></b></a></p>`, `<a xmlns="u"><b xmlns=""><c></c></b></a>`},
		{`<p xmlns:q="u"><a xmlns:q="v"><q:b/></a><q:b/></p>`, `<a xmlns:q="v"><q:b></q:b></a><q:b xmlns:q="u"></q:b>`},
		{`<p><a b="&quot;&lt;&#10;"/></p>`, `<a b="&quot;&lt;&#10;"></a>`},
		{`<p><a xml:lang="de"/><![CDATA[<x>]]></p>`, `<a xml:lang="de"></a>&lt;x&gt;`},
		{`<p/>`, ""},
	} {
		x, err := newXMLReader([]byte(c.doc))
		if err != nil {
			t.Fatal(err)
		}
		if err := x.root(); err != nil {
			t.Fatal(err)
		}
		got, err := x.content(nil)
		if err != nil || string(got) != c.want {
			t.Errorf("%s:\n got %s %v\nwant %s", c.doc, got, err, c.want)
		}
	}
}

func TestXMLTextEscapes(t *testing.T) {
	for _, c := range []struct{ in, text, attr string }{
		{`a<b>&"c'`, `a&lt;b&gt;&amp;"c'`, `a&lt;b&gt;&amp;&quot;c'`},
		{"\x00\x1f\t\n\r", "\uFFFD\uFFFD\t\n&#13;", "\uFFFD\uFFFD&#9;&#10;&#13;"},
		{"é\xff\xe9名\xed\xa0\x80\uFFFE", "é\uFFFD\uFFFD名\uFFFD\uFFFD\uFFFD\uFFFD", "é\uFFFD\uFFFD名\uFFFD\uFFFD\uFFFD\uFFFD"},
		{"", "", ""},
	} {
		if got := appendXMLText(nil, c.in); string(got) != c.text {
			t.Errorf("text %q: got %q, want %q", c.in, got, c.text)
		}
		if got := appendXMLAttr(nil, []byte(c.in)); string(got) != c.attr {
			t.Errorf("attr %q: got %q, want %q", c.in, got, c.attr)
		}
	}
}

func TestParseFind(t *testing.T) {
	name := func(space, local string) propRef {
		return propRef{livePropOf([]byte(space), []byte(local)), session.PropName{Space: space, Local: local}}
	}
	for _, c := range []struct {
		body string
		want find
	}{
		{"", *findDefault},
		{`<propfind xmlns="DAV:"><allprop/></propfind>`, find{kind: findAll, dead: true, locks: true}},
		{`<propfind xmlns="DAV:"><x/><propname/></propfind>`, find{kind: findNames, dead: true}},
		{`<propfind xmlns="DAV:"><allprop/><include><quota-used-bytes/></include></propfind>`,
			find{kind: findAll, props: []propRef{name("DAV:", "quota-used-bytes")}, dead: true, locks: true, quota: true}},
		{`<D:propfind xmlns:D="DAV:"><D:prop><D:getetag/><D:lockdiscovery/></D:prop></D:propfind>`,
			find{kind: findProps, props: []propRef{name("DAV:", "getetag"), name("DAV:", "lockdiscovery")}, locks: true}},
		{`<D:propfind xmlns:D="DAV:"><D:prop><getetag xmlns=""/></D:prop></D:propfind>`,
			find{kind: findProps, props: []propRef{name("", "getetag")}, dead: true}},
	} {
		got, err := parseFind([]byte(c.body))
		if err != nil || fmt.Sprint(*got) != fmt.Sprint(c.want) {
			t.Errorf("%s:\n got %+v %v\nwant %+v", c.body, got, err, c.want)
		}
	}
	for _, body := range []string{
		`<propfind xmlns="DAV:"/>`, `<propfind><allprop/></propfind>`, `<prop xmlns="DAV:"/>`,
		`<propfind xmlns="DAV:"><allprop/><propname/></propfind>`, `<propfind xmlns="DAV:"><prop>text</prop></propfind>`,
		`<propfind xmlns="DAV:"><allprop/></propfind><x/>`, `<D:propfind xmlns:D=""><D:allprop/></D:propfind>`,
	} {
		if _, err := parseFind([]byte(body)); !errors.Is(err, errXML) {
			t.Errorf("%s: %v", body, err)
		}
	}
}

// bodies of well-known clients and of the RFC.
var xmlSeeds = []string{
	`<?xml version="1.0" encoding="utf-8" ?><propfind xmlns="DAV:"><prop><resourcetype/><getcontentlength/></prop></propfind>`,
	`<?xml version="1.0" encoding="utf-8"?><D:propfind xmlns:D="DAV:"><D:allprop/></D:propfind>`,
	`<?xml version="1.0" encoding="utf-8" ?><D:propertyupdate xmlns:D="DAV:" xmlns:Z="urn:schemas-microsoft-com:"><D:set><D:prop><Z:Win32CreationTime>Wed, 25 Nov 2026 09:10:11 GMT</Z:Win32CreationTime><Z:Win32LastAccessTime>Wed, 25 Nov 2026 09:10:11 GMT</Z:Win32LastAccessTime><Z:Win32LastModifiedTime>Wed, 25 Nov 2026 09:10:11 GMT</Z:Win32LastModifiedTime><Z:Win32FileAttributes>00000020</Z:Win32FileAttributes></D:prop></D:set></D:propertyupdate>`,
	`<D:propertyupdate xmlns:D="DAV:" xmlns:Z="http://ns.example.com/z/"><D:set><D:prop><Z:Authors><Z:Author>Jim Whitehead</Z:Author><Z:Author>Roy Fielding</Z:Author></Z:Authors></D:prop></D:set><D:remove><D:prop><Z:Copyright-Owner/></D:prop></D:remove></D:propertyupdate>`,
	`<?xml version="1.0" encoding="utf-8" ?><D:lockinfo xmlns:D='DAV:'><D:lockscope><D:exclusive/></D:lockscope><D:locktype><D:write/></D:locktype><D:owner><D:href>http://example.org/~ejw/contact.html</D:href></D:owner></D:lockinfo>`,
	`<D:mkcol xmlns:D="DAV:"><D:set><D:prop><D:resourcetype><D:collection/></D:resourcetype><D:displayname>Résumé</D:displayname></D:prop></D:set></D:mkcol>`,
	"<a xml:lang='en'>x&#13;<![CDATA[]]>&amp;<b:c xmlns:b='u' b:d='&#9;'/></a>",
}

// FuzzXML: no panic; what is read and written again means the same; every parser of bodies copes.
func FuzzXML(f *testing.F) {
	for _, s := range xmlSeeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		parseLock(doc)
		parseMkcol(doc)
		parseFind(doc)
		list, err := parsePatches(doc)
		if err == nil {
			for _, p := range list {
				if p.remove {
					continue
				}
				element := appendPropEnd(append(appendPropStart(nil, &p.prop.PropName, p.prop.Lang), p.prop.XML...), &p.prop.PropName)
				again := bytes.Join([][]byte{[]byte(`<D:propertyupdate xmlns:D="DAV:"><D:set><D:prop>`), element, []byte(`</D:prop></D:set></D:propertyupdate>`)}, nil)
				back, err := parsePatches(again)
				if len(again) > maxXMLBytes || bytes.Count(again, []byte("<")) > maxXMLElements {
					continue
				}
				if err != nil || len(back) != 1 || back[0].prop != p.prop {
					t.Fatalf("%q: wrote %q, read %+v %v", doc, again, back, err)
				}
			}
		}
		x, err := newXMLReader(doc)
		if err != nil || x.root() != nil {
			return
		}
		body, err := x.content(nil)
		if err != nil {
			return
		}
		if !utf8.Valid(body) {
			t.Fatalf("%q gave %q", doc, body)
		}
	})
}
