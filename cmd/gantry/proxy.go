package main

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/gantryhq/gantry/engine"
)

// proxy is the rule of PROXY headers.
func (c Common) proxy() (engine.ProxyConfig, error) {
	out := engine.ProxyConfig{Mode: c.ProxyProtocol}
	var errs []error
	if out.Mode < engine.ProxyOff || out.Mode > engine.ProxyRequired {
		errs = append(errs, fmt.Errorf("common.proxy_protocol: must be 0, 1 or 2, it is %d", out.Mode))
	}
	read := func(key string, list []string) (nets []netip.Prefix) {
		for i, text := range list {
			n, err := netip.ParsePrefix(text)
			if a, aerr := netip.ParseAddr(text); aerr == nil && a.Zone() == "" {
				n, err = netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()), nil
			}
			if err != nil {
				errs = append(errs, fmt.Errorf("common.%s[%d]: %q is neither an address nor a network", key, i, text))
				continue
			}
			nets = append(nets, n.Masked())
		}
		return nets
	}
	out.Allowed, out.Skipped = read("proxy_allowed", c.ProxyAllowed), read("proxy_skipped", c.ProxySkipped)
	if out.Mode == engine.ProxyRequired && len(c.ProxyAllowed) == 0 {
		errs = append(errs, errors.New("common.proxy_allowed: proxy_protocol 2 needs the addresses of the proxies; without them nobody could connect"))
	}
	return out, errors.Join(errs...)
}
