package gate

import (
	"net/http"
	"net/netip"
	"strings"
)

// clientAddr returns the client's address. It reads X-Forwarded-For from the right and returns the first address that
// does not belong to a trusted proxy; what stands left of it could be forged.
func (a *api) clientAddr(r *http.Request) netip.Addr {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	addr := peer.Addr().Unmap()
	if len(a.proxies) == 0 {
		return addr
	}
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0 && a.trusted(addr); i-- {
		hop := strings.TrimSpace(hops[i])
		if hop == "" {
			continue // a list may have empty elements
		}
		next, ok := parseHop(hop)
		if !ok {
			// The element is not an address, so the client is unknown and counts as the proxy.
			if a.noise.Allow() {
				a.log.Warn("a trusted proxy sent X-Forwarded-For without an address, so its clients share one limit; "+
					"configure it to append the client's IP address", "proxy", addr.String())
			}
			break
		}
		addr = next
	}
	return addr
}

// parseHop parses an address in the forms that proxies write: plain, in brackets, with a port, in quotes.
func parseHop(hop string) (netip.Addr, bool) {
	hop = strings.TrimSpace(strings.Trim(hop, `"`))
	addr, err := netip.ParseAddr(hop)
	if inner, ok := strings.CutPrefix(hop, "["); ok && err != nil {
		if inner, ok = strings.CutSuffix(inner, "]"); ok {
			addr, err = netip.ParseAddr(inner)
		}
	}
	if err != nil {
		var withPort netip.AddrPort
		withPort, err = netip.ParseAddrPort(hop)
		addr = withPort.Addr()
	}
	return addr.Unmap().WithZone(""), err == nil
}

func (a *api) trusted(addr netip.Addr) bool { return within(a.proxies, addr) }

// manyBehind reports whether addr may stand for many clients, as a trusted proxy does.
func (a *api) manyBehind(addr netip.Addr) bool { return a.exempt(addr) || a.trusted(addr) }

// within reports whether one of the networks has an address.
func within(networks []netip.Prefix, addr netip.Addr) bool {
	for _, p := range networks {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}
