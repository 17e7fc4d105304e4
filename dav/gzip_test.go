package dav

import (
	"compress/gzip"
	"io"
	"testing"
)

func gunzipped(r io.Reader) (string, error) {
	z, err := gzip.NewReader(r)
	if err != nil {
		return "", err
	}
	b, err := io.ReadAll(z)
	return string(b), err
}

func TestAcceptsGzip(t *testing.T) {
	for list, want := range map[string]bool{
		"": false, "gzip": true, "deflate, GZIP": true, "gzip;q=0": false, "gzip; q=0.0": false, "gzip;q=0.5": true, "x-gzip": true, "br": false, "gzipped": false,
	} {
		if got := acceptsGzip(list); got != want {
			t.Errorf("%q: %v", list, got)
		}
	}
}
