package dav

import (
	"context"
	"fmt"
	"strings"
	"testing"
)

// clientFind is what rclone asks for, with a property that nothing has.
const clientFind = `<?xml version="1.0"?><d:propfind xmlns:d="DAV:" xmlns:oc="http://owncloud.org/ns"><d:prop><d:displayname /><d:getlastmodified /><d:getcontentlength /><d:resourcetype /><d:getcontenttype /><oc:checksums /></d:prop></d:propfind>`

func benchPropfind(b *testing.B, depth string, children int, body string) {
	h := newBench(b)
	h.mkdir("/d")
	for i := range children {
		h.put(fmt.Sprintf("/d/file %05d.txt", i), "x")
	}
	p, _, _ := parsePath("/d", "")
	r := &request{ctx: context.Background(), s: h.s, method: "PROPFIND", path: p, host: "h", length: int64(len(body)), fields: fieldMap{"Depth": depth}}
	w := newResponse(h.srv, nil, r)
	b.ReportAllocs()
	for b.Loop() {
		r.body = strings.NewReader(body)
		w.code, w.names = 0, w.names[:0]
		w.drop()
		if err := h.srv.propfind(r, w); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(int64(len(w.held())))
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(children+1), "ns/entry")
}

func BenchmarkPropfindDepth0(b *testing.B)        { benchPropfind(b, "0", 0, clientFind) }
func BenchmarkPropfindDepth0All(b *testing.B)     { benchPropfind(b, "0", 0, "") }
func BenchmarkPropfindDepth1Of10(b *testing.B)    { benchPropfind(b, "1", 10, clientFind) }
func BenchmarkPropfindDepth1Of1000(b *testing.B)  { benchPropfind(b, "1", 1000, clientFind) }
func BenchmarkPropfindDepth1All1000(b *testing.B) { benchPropfind(b, "1", 1000, "") }
func BenchmarkListAloneOf1000(b *testing.B) {
	h := newBench(b)
	h.mkdir("/d")
	for i := range 1000 {
		h.put(fmt.Sprintf("/d/file %05d.txt", i), "x")
	}
	p, _, _ := parsePath("/d", "")
	b.ReportAllocs()
	for b.Loop() {
		for _, err := range h.s.List(context.Background(), p) {
			if err != nil {
				b.Fatal(err)
			}
		}
	}
}
