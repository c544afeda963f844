package websocket

import (
	"bufio"
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// Protocol is the subprotocol that Parley speaks.
const Protocol = "parley.v1"

// MaxHandshake bounds one side's part of the handshake, in bytes.
const MaxHandshake = 8 << 10

// acceptGUID is a constant of RFC 6455.
const acceptGUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

var headEnd = []byte("\r\n\r\n")

// Origins are the web pages that may connect: "*" for all, a host name, or SCHEME://HOST[:PORT] as browsers write it. When it
// is empty a page may connect to the host it came from, whatever the ports. Clients that are no browsers send no origin and
// may always connect.
type Origins []string

// Handshake is a server's side of the handshake. The zero value is ready.
type Handshake struct {
	held head
}

// Next takes data and returns the answer once the handshake is complete, with the rest of data. ok says that the stream is
// open; else it is to be closed behind the answer. An empty answer means that more is to come.
func (h *Handshake) Next(data []byte, origins Origins) (answer, rest []byte, ok bool) {
	request, rest, err := h.held.next(data)
	if err != nil {
		return refuse(http.StatusRequestHeaderFieldsTooLarge, "", "handshake too long"), nil, false
	}
	if request == nil {
		return nil, nil, false
	}
	answer, ok = origins.answer(request)
	return answer, rest, ok
}

// head collects one side's part of the handshake.
type head struct{ held []byte }

var errTooLong = errors.New("handshake too long")

// next takes data and returns all of the head once it has come, with the rest of data; nil while more is to come.
func (h *head) next(data []byte) (all, rest []byte, err error) {
	from := max(len(h.held)-len(headEnd)+1, 0)
	before := len(h.held)
	h.held = append(h.held, data[:min(len(data), MaxHandshake-before)]...)
	i := bytes.Index(h.held[from:], headEnd)
	if i < 0 {
		if len(h.held) >= MaxHandshake {
			h.held = nil
			return nil, nil, errTooLong
		}
		return nil, nil, nil
	}
	end := from + i + len(headEnd)
	all, h.held = h.held[:end], nil
	return all, data[end-before:], nil
}

// answer returns what a client is told, and whether it may go on.
func (o Origins) answer(head []byte) (answer []byte, ok bool) {
	r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(head)))
	switch {
	case err != nil || !r.ProtoAtLeast(1, 1) || r.ContentLength != 0 || r.Host == "":
		return refuse(http.StatusBadRequest, "", "bad request"), false
	case r.Method != http.MethodGet:
		return refuse(http.StatusMethodNotAllowed, "Allow: GET\r\n", "this port speaks WebSocket"), false
	case !hasToken(r.Header, "Connection", "upgrade") || !hasToken(r.Header, "Upgrade", "websocket"):
		return refuse(http.StatusUpgradeRequired, "Upgrade: websocket\r\n", "this port speaks WebSocket"), false
	case r.Header.Get("Sec-Websocket-Version") != "13":
		return refuse(http.StatusUpgradeRequired, "Sec-WebSocket-Version: 13\r\n", "version 13 is needed"), false
	}
	key := r.Header.Get("Sec-Websocket-Key")
	if raw, err := base64.StdEncoding.DecodeString(key); err != nil || len(raw) != 16 {
		return refuse(http.StatusBadRequest, "", "bad Sec-WebSocket-Key"), false
	}
	if !o.allows(r) {
		return refuse(http.StatusForbidden, "", "origin not allowed"), false
	}
	protocol := ""
	if offered := r.Header.Values("Sec-Websocket-Protocol"); len(offered) > 0 {
		if !hasToken(r.Header, "Sec-Websocket-Protocol", Protocol) {
			return refuse(http.StatusBadRequest, "", "subprotocol "+Protocol+" is needed"), false
		}
		protocol = "Sec-WebSocket-Protocol: " + Protocol + "\r\n"
	}
	return fmt.Appendf(nil, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n%s\r\n",
		acceptOf(key), protocol), true
}

// acceptOf is what a server answers to a client's key.
func acceptOf(key string) string {
	sum := sha1.Sum([]byte(key + acceptGUID))
	return base64.StdEncoding.EncodeToString(sum[:])
}

func refuse(status int, header, problem string) []byte {
	return fmt.Appendf(nil, "HTTP/1.1 %d %s\r\n%sContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s\n",
		status, http.StatusText(status), header, len(problem)+1, problem)
}

// hasToken reports whether a header, a comma-separated list, holds a token, in whatever case.
func hasToken(h http.Header, name, token string) bool {
	for _, line := range h.Values(name) {
		for item := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(item), token) {
				return true
			}
		}
	}
	return false
}

// allows reports whether the page that the client runs in may connect.
func (o Origins) allows(r *http.Request) bool {
	list := r.Header.Values("Origin")
	if len(list) == 0 {
		return true
	}
	if slices.Contains(o, "*") {
		return true
	}
	origin := list[0]
	u, err := url.Parse(origin)
	if err != nil || len(list) > 1 || u.Hostname() == "" {
		return false // a page without an origin of its own says null
	}
	if len(o) == 0 {
		return strings.EqualFold(u.Hostname(), hostname(r.Host))
	}
	return slices.ContainsFunc(o, func(allowed string) bool {
		return strings.EqualFold(allowed, origin) || strings.EqualFold(allowed, u.Hostname())
	})
}

// hostname returns a Host header without its port.
func hostname(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		return name
	}
	return strings.Trim(host, "[]")
}
