package login

import (
	"slices"
	"strconv"
	"time"

	"parley/internal/session"
	"parley/internal/wire"
)

// grant is what 1006 says beside the user's data.
type grant struct {
	req       *wire.LoginRequest
	sid       session.SID
	node      string
	caps      []string
	resume    string
	other     string // address of another node; "" if there is none
	window    int
	heartbeat time.Duration
	data      string // id of the data; "" if not known
}

// frame builds 1006. profile is a JSON object, lists the members apply_list and friend_list without braces.
func (g *grant) frame(profile, lists []byte) ([]byte, error) {
	b := wire.AppendHeader(make([]byte, 0, len(profile)+len(lists)+512), wire.MsgLoginRsp, 0)
	b = append(b, `{"error":0,`...)
	b = append(b, profile[1:len(profile)-1]...)
	if g.req.Token != "" {
		b = wire.AppendString(append(b, `,"token":`...), g.req.Token)
	}
	if g.req.Native() {
		b = append(b, `,"caps":[`...)
		for i, cap := range g.caps {
			if i > 0 {
				b = append(b, ',')
			}
			b = wire.AppendString(b, cap)
		}
		b = strconv.AppendInt(append(b, `],"window":`...), int64(g.window), 10)
		b = strconv.AppendInt(append(b, `,"heartbeat_s":`...), int64(g.heartbeat/time.Second), 10)
		b = wire.AppendString(append(b, `,"node":`...), g.node)
		b = wire.AppendString(append(b, `,"device":`...), g.req.Device)
		b = wire.AppendString(append(b, `,"sid":`...), g.sid.String())
		if g.data != "" {
			b = wire.AppendString(append(b, `,"data":`...), g.data)
		}
		if g.resume != "" {
			b = wire.AppendString(append(b, `,"resume":`...), g.resume)
		}
		if g.other != "" {
			b = wire.AppendString(append(b, `,"other":`...), g.other)
		}
	}
	b = append(append(append(b, ','), lists...), '}')
	return b, wire.EndFrame(b)
}

func intersect(asked, offered []string) []string {
	out := make([]string, 0, len(offered))
	for _, o := range offered {
		if slices.Contains(asked, o) {
			out = append(out, o)
		}
	}
	return out
}
