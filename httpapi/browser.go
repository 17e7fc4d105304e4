package httpapi

import (
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/valyala/fasthttp"
)

// client fills in who the client is. Headers count from a trusted peer alone, and only those that the binding names
// (HTTP-1, AUTH-6).
func (b *binding) client(q *Request) {
	if a, err := netip.ParseAddrPort(q.conn.RemoteAddr().String()); err == nil {
		q.Remote = netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
	} else {
		q.Remote = netip.AddrPortFrom(netip.IPv4Unspecified(), 0) // a Unix socket
	}
	q.Secure = b.tls != nil
	if !b.fromProxy(q) {
		return
	}
	h := &q.HTTP.Request.Header
	if strings.EqualFold(string(h.Peek("X-Forwarded-Proto")), "https") {
		q.Secure = true
	}
	if b.ProxyMode == 1 || b.ClientIPProxyHeader == "" {
		return
	}
	var all []string
	for _, v := range h.PeekAll(b.ClientIPProxyHeader) {
		for _, part := range strings.Split(string(v), ",") {
			all = append(all, strings.TrimSpace(part))
		}
	}
	at := len(all) - 1 - b.ClientIPHeaderDepth
	if b.ClientIPHeaderDepth == -1 {
		at = 0
	}
	if at < 0 || at >= len(all) {
		return
	}
	text := all[at]
	if ap, err := netip.ParseAddrPort(text); err == nil {
		text = ap.Addr().String()
	}
	if a, err := netip.ParseAddr(strings.Trim(text, "[]")); err == nil {
		q.Remote = netip.AddrPortFrom(a.Unmap().WithZone(""), 0)
	}
}

// browser sets the headers for browsers and checks the Host. It reports whether the request goes on.
func (b *binding) browser(q *Request) bool {
	h := &q.HTTP.Response.Header
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	s := &b.Security
	if !s.Enabled {
		return true
	}
	host := string(q.HTTP.Host())
	for _, name := range s.HostsProxyHeaders {
		if v := q.HTTP.Request.Header.Peek(name); b.fromProxy(q) && len(v) > 0 {
			host = string(v)
			break
		}
	}
	if !b.hosts.allow(host) {
		b.s.handler.Refuse(q.HTTP, fasthttp.StatusForbidden, nil)
		return false
	}
	secure := q.Secure
	for _, kv := range s.HTTPSProxyHeaders {
		if kv.Key != "" && b.fromProxy(q) && strings.EqualFold(string(q.HTTP.Request.Header.Peek(kv.Key)), kv.Value) {
			secure = true
		}
	}
	if s.HTTPSRedirect && !secure {
		to := s.HTTPSHost
		if to == "" {
			to = host
		}
		h.Set("Location", "https://"+strings.NewReplacer("\r", "", "\n", "").Replace(to)+string(q.HTTP.Request.URI().RequestURI()))
		b.s.handler.Refuse(q.HTTP, fasthttp.StatusPermanentRedirect, nil)
		return false
	}
	if s.STSSeconds > 0 && secure {
		v := "max-age=" + strconv.FormatInt(s.STSSeconds, 10)
		if s.STSIncludeSubdomains {
			v += "; includeSubDomains"
		}
		if s.STSPreload {
			v += "; preload"
		}
		h.Set("Strict-Transport-Security", v)
	}
	for _, kv := range [][2]string{{"Permissions-Policy", s.PermissionsPolicy}, {"Cross-Origin-Opener-Policy", s.CrossOriginOpenerPolicy},
		{"Cross-Origin-Resource-Policy", s.CrossOriginResourcePolicy}, {"Cross-Origin-Embedder-Policy", s.CrossOriginEmbedderPolicy},
		{"Referrer-Policy", s.ReferrerPolicy}, {"Content-Security-Policy", s.ContentSecurityPolicy}} {
		if kv[1] != "" {
			h.Set(kv[0], kv[1])
		}
	}
	if s.CacheControl == "private" {
		h.Set("Cache-Control", "no-cache, no-store, max-age=0, must-revalidate, private")
	}
	return true
}

// remoteOf is the socket's peer.
func remoteOf(q *Request) netip.AddrPort {
	a, _ := netip.ParseAddrPort(q.conn.RemoteAddr().String())
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
}

// fromProxy reports whether the socket's peer is in proxy_allowed.
func (b *binding) fromProxy(q *Request) bool {
	if _, unix := q.conn.RemoteAddr().(*net.UnixAddr); unix {
		return len(b.trusted) > 0
	}
	peer := remoteOf(q).Addr()
	return slices.ContainsFunc(b.trusted, func(p netip.Prefix) bool { return p.Contains(peer) })
}

// cors answers preflights and names the origins that may read answers. Nil is off: no origin may.
type cors struct {
	CORS
	origins []string
	any     bool
}

func newCORS(c CORS) *cors {
	if !c.Enabled {
		return nil
	}
	x := &cors{CORS: c}
	if len(c.AllowedOrigins) == 0 && !c.AllowCredentials {
		x.any = true
	}
	for _, o := range c.AllowedOrigins {
		if o == "*" {
			x.any = true
		}
		x.origins = append(x.origins, strings.ToLower(o))
	}
	if len(x.AllowedMethods) == 0 {
		x.AllowedMethods = []string{"GET", "POST", "HEAD"}
	}
	return x
}

// allowed knows one * inside an origin, as in https://*.example.com.
func (c *cors) allowed(origin string) bool {
	if c.any {
		return true
	}
	origin = strings.ToLower(origin)
	return slices.ContainsFunc(c.origins, func(o string) bool {
		before, after, wild := strings.Cut(o, "*")
		if !wild {
			return o == origin
		}
		return len(origin) >= len(before)+len(after) && strings.HasPrefix(origin, before) && strings.HasSuffix(origin, after)
	})
}

// handle reports whether it answered the request.
func (c *cors) handle(q *Request) bool {
	if c == nil {
		return false
	}
	in, out := &q.HTTP.Request.Header, &q.HTTP.Response.Header
	origin := string(in.Peek("Origin"))
	wants := string(in.Peek("Access-Control-Request-Method"))
	preflight := q.HTTP.IsOptions() && wants != ""
	out.Add("Vary", "Origin")
	if preflight {
		out.Add("Vary", "Access-Control-Request-Method")
		out.Add("Vary", "Access-Control-Request-Headers")
	}
	answered := preflight && !c.OptionsPassthrough
	if answered {
		status := c.OptionsSuccessStatus
		if status == 0 {
			status = fasthttp.StatusNoContent
		}
		q.HTTP.SetStatusCode(status)
	}
	if origin == "" || !c.allowed(origin) {
		return answered
	}
	if preflight {
		if !slices.ContainsFunc(c.AllowedMethods, func(m string) bool { return strings.EqualFold(m, wants) || m == "*" }) {
			return answered
		}
		asked := strings.Split(string(in.Peek("Access-Control-Request-Headers")), ",")
		for _, h := range asked {
			h = strings.TrimSpace(h)
			if h != "" && !slices.ContainsFunc(c.AllowedHeaders, func(a string) bool { return a == "*" || strings.EqualFold(a, h) }) && !strings.EqualFold(h, "origin") {
				return answered
			}
		}
		out.Set("Access-Control-Allow-Methods", strings.ToUpper(wants))
		if h := strings.TrimSpace(strings.Join(asked, ",")); h != "" {
			out.Set("Access-Control-Allow-Headers", h)
		}
		if c.AllowPrivateNetwork && string(in.Peek("Access-Control-Request-Private-Network")) == "true" {
			out.Set("Access-Control-Allow-Private-Network", "true")
		}
		if c.MaxAge > 0 {
			out.Set("Access-Control-Max-Age", strconv.Itoa(c.MaxAge))
		}
	} else if len(c.ExposedHeaders) > 0 {
		out.Set("Access-Control-Expose-Headers", strings.Join(c.ExposedHeaders, ", "))
	}
	if c.any && !c.AllowCredentials {
		out.Set("Access-Control-Allow-Origin", "*")
	} else {
		out.Set("Access-Control-Allow-Origin", origin)
	}
	if c.AllowCredentials {
		out.Set("Access-Control-Allow-Credentials", "true")
	}
	return answered
}
