package dav

import (
	"net/textproto"
	"slices"
	"strconv"
	"strings"
)

// cors answers the questions of browsers about pages of other origins (the Fetch standard).
type cors struct {
	CORS
	methods, headers, exposed string
	anyHeader                 bool
}

func newCORS(c CORS, table map[string]method) *cors {
	if !c.Enabled {
		return nil
	}
	x := &cors{CORS: c, exposed: strings.Join(c.ExposedHeaders, ", ")}
	if x.OptionsSuccessStatus == 0 {
		x.OptionsSuccessStatus = 204
	}
	if len(x.AllowedMethods) == 0 {
		x.AllowedMethods = []string{"GET", "HEAD"}
	}
	if slices.Contains(x.AllowedMethods, "*") {
		x.AllowedMethods = strings.Split(allowed(table), ", ")
	}
	for i, m := range x.AllowedMethods {
		x.AllowedMethods[i] = strings.ToUpper(m)
	}
	x.methods = strings.Join(x.AllowedMethods, ", ")
	x.anyHeader = slices.Contains(x.AllowedHeaders, "*")
	x.AllowedHeaders = slices.Clone(x.AllowedHeaders)
	for i, h := range x.AllowedHeaders {
		x.AllowedHeaders[i] = textproto.CanonicalMIMEHeaderKey(h)
	}
	x.headers = strings.Join(x.AllowedHeaders, ", ")
	return x
}

// origin reports whether pages of an origin may call.
func (x *cors) origin(o string) bool {
	for _, a := range x.AllowedOrigins {
		if before, after, ok := strings.Cut(a, "*"); ok {
			if len(o) >= len(before)+len(after) && strings.HasPrefix(o, before) && strings.HasSuffix(o, after) {
				return true
			}
		} else if strings.EqualFold(a, o) {
			return true
		}
	}
	return false
}

// apply adds the fields of an answer. It reports whether the request was a preflight, which is answered with them.
func (x *cors) apply(r *request, w *response) (preflight bool) {
	o := r.header("Origin")
	if o == "" {
		return false
	}
	w.vary("Origin")
	asked := r.header("Access-Control-Request-Method")
	preflight = r.method == "OPTIONS" && asked != ""
	if !x.origin(o) || preflight && !x.may(r, asked) {
		return preflight && !x.OptionsPassthrough
	}
	if slices.Contains(x.AllowedOrigins, "*") && !x.AllowCredentials {
		o = "*"
	}
	w.set("Access-Control-Allow-Origin", o)
	if x.AllowCredentials {
		w.set("Access-Control-Allow-Credentials", "true")
	}
	if !preflight {
		if x.exposed != "" {
			w.set("Access-Control-Expose-Headers", x.exposed)
		}
		return false
	}
	w.set("Access-Control-Allow-Methods", x.methods)
	if h := r.header("Access-Control-Request-Headers"); h != "" {
		if !x.anyHeader {
			h = x.headers
		}
		w.set("Access-Control-Allow-Headers", h)
	}
	if x.MaxAge > 0 {
		w.set("Access-Control-Max-Age", strconv.Itoa(x.MaxAge))
	}
	if x.AllowPrivateNetwork && r.header("Access-Control-Request-Private-Network") == "true" {
		w.set("Access-Control-Allow-Private-Network", "true")
	}
	return !x.OptionsPassthrough
}

// may reports whether a preflight asks for what is allowed.
func (x *cors) may(r *request, method string) bool {
	if !slices.Contains(x.AllowedMethods, strings.ToUpper(method)) {
		return false
	}
	if x.anyHeader {
		return true
	}
	for h := range strings.SplitSeq(r.header("Access-Control-Request-Headers"), ",") {
		if h = textproto.CanonicalMIMEHeaderKey(strings.TrimSpace(h)); h != "" && !slices.Contains(x.AllowedHeaders, h) && h != "Origin" {
			return false
		}
	}
	return true
}
