package presence

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"parley/internal/memredis"
)

// Embedded returns the scripts of this package for an embedded Redis. Each function below does what the Lua file of its
// name does, whose comments also hold here. A test of internal/standalone compares the two step by step.
func Embedded() []memredis.Script {
	return []memredis.Script{
		{Lua: claimScript, Go: claimEmbedded},
		{Lua: releaseScript, Go: releaseEmbedded},
		{Lua: logoutScript, Go: logoutEmbedded},
		{Lua: kickScript, Go: kickEmbedded},
		{Lua: revokeScript, Go: revokeEmbedded},
		{Lua: placeScript, Go: placeEmbedded},
		{Lua: loadScript, Go: loadEmbedded},
		{Lua: leaseTakeScript, Go: leaseTakeEmbedded},
		{Lua: leaseExtendScript, Go: leaseExtendEmbedded},
		{Lua: leaseDropScript, Go: leaseDropEmbedded},
		{Lua: generationScript, Go: generationEmbedded},
		{Lua: groupDropScript, Go: groupDropEmbedded},
	}
}

func claimEmbedded(tx *memredis.Tx, keys, args []string) any {
	resuming, presented, device, mine, mode := args[0] == "resume", args[1], args[2], args[3], claimMode(args[10])
	ticket, known := tx.MGet(keys[0])
	least, revoked := tx.MGet(keys[1])
	version, ok := tx.MGet(keys[5])
	if !ok {
		version = "0"
	}
	profile, lists := "", ""
	if mode != modeClaim {
		profile, _ = tx.MGet(keys[6])
		lists, _ = tx.MGet(keys[7])
	}
	refused := []any{0}
	if mode == modePeek {
		refused = []any{0, "", version, profile, lists}
	}
	if !known {
		return refused
	}
	was, ok := parseTicket(ticket)
	if !ok || revoked && memredis.Int(was.issued) <= memredis.Int(least) {
		return refused
	}
	again := was.claimant == mine
	if !again {
		if resuming {
			if presented != was.current && presented != was.previous && presented != was.sibling {
				return refused
			}
		} else if was.claimant != "" {
			return refused
		}
		cached := profile != "" && strings.HasPrefix(lists, version+"\n")
		if mode == modePeek || mode == modeWarm && !cached {
			return []any{claimGood, "", version, profile, lists}
		}
	}

	if kind := tx.Type(keys[2]); kind != "hash" {
		tx.Del(keys[2])
	}
	old := ""
	sessions := tx.HGetAll(keys[2])
	answer := make([]any, claimFixed, claimFixed+2*len(sessions))
	for _, s := range sessions {
		if s.Name == device {
			old = s.Value
		} else {
			answer = append(answer, s.Name, s.Value)
		}
	}
	others := (len(answer) - claimFixed) / 2
	reply := func(status int, first string) any {
		answer[0], answer[1], answer[2], answer[3], answer[4] = status, first, version, profile, lists
		return answer
	}
	if again {
		if old != mine {
			return []any{0}
		}
		if was.displaced == "-" {
			was.displaced = ""
		}
		return reply(claimGranted, was.displaced)
	}
	if old == "" && others >= memredis.Int(args[9]) {
		return reply(claimDevices, "")
	}

	life := memredis.Seconds(args[5])
	tx.HSet(keys[2], device, mine)
	tx.Expire(keys[2], life)
	tx.Set(keys[3], args[4], life)
	displaced := old
	if displaced == "" {
		displaced = "-"
	}
	now, record, next := strconv.FormatInt(tx.NowMS(), 10), mine+" "+displaced, args[6]
	switch {
	case !resuming:
		tx.Set(keys[0], was.issued+" "+record, memredis.Millis(args[8]))
		if next != "" {
			tx.Set(keys[4], now+" - - "+next+" - -", memredis.Seconds(args[7]))
		} else if device != "" {
			tx.Del(keys[4])
		}
	case next != "":
		other := was.current
		if presented == was.current {
			other = "-"
		}
		tx.Set(keys[4], now+" "+record+" "+next+" "+presented+" "+other, memredis.Seconds(args[7]))
	default:
		tx.Set(keys[4], was.issued+" "+record+" - - -", memredis.Millis(args[8]))
	}
	return reply(claimGranted, old)
}

// ticketRecord is the value of a token or of a device's tickets.
type ticketRecord struct{ issued, claimant, displaced, current, previous, sibling string }

// parseTicket does what the pattern of claim.lua does.
func parseTicket(s string) (t ticketRecord, ok bool) {
	digits := len(s) - len(strings.TrimLeft(s, "0123456789"))
	t.issued, s = s[:digits], s[digits:]
	for _, field := range []*string{&t.claimant, &t.displaced, &t.current, &t.previous, &t.sibling} {
		s = strings.TrimPrefix(s, " ")
		end := strings.IndexAny(s, " \t\n\v\f\r")
		if end < 0 {
			end = len(s)
		}
		*field, s = s[:end], s[end:]
	}
	return t, digits > 0 && s == ""
}

func releaseEmbedded(tx *memredis.Tx, keys, args []string) any {
	return dropSession(tx, keys[0], keys[1], keys[2], args, func() {})
}

func logoutEmbedded(tx *memredis.Tx, keys, args []string) any {
	return dropSession(tx, keys[0], keys[1], keys[3], args, func() { tx.Del(keys[2]) })
}

func dropSession(tx *memredis.Tx, session, nodeOf, seen string, args []string, then func()) any {
	if at, ok := tx.HGet(session, args[0]); !ok || at != args[1] {
		return 0
	}
	then()
	tx.HDel(session, args[0])
	left := tx.HGetAll(session)
	if len(left) == 0 {
		tx.Del(nodeOf)
		tx.Set(seen, strconv.FormatInt(tx.Now().Unix()/60, 10), memredis.Seconds(args[3]))
		return 1
	}
	node := ""
	if _, rest, ok := strings.Cut(left[0].Value, "|"); ok {
		if end := strings.LastIndexByte(rest, '|'); end >= 0 {
			node = rest[:end]
		}
	}
	tx.Set(nodeOf, node, memredis.Seconds(args[2]))
	return 1
}

func kickEmbedded(tx *memredis.Tx, keys, args []string) any {
	n, most, fits := tx.LLen(keys[0]), memredis.Int(args[1]), 0
	if n < most {
		tx.RPush(keys[0], args[0])
		fits = 1
	} else if n == most {
		tx.RPush(keys[0], args[2])
	}
	tx.Expire(keys[0], memredis.Seconds(args[3]))
	return fits
}

func revokeEmbedded(tx *memredis.Tx, keys, args []string) any {
	tx.Set(keys[0], strconv.FormatInt(tx.NowMS(), 10), memredis.Seconds(args[0]))
	return 1
}

func placeEmbedded(tx *memredis.Tx, keys, args []string) any {
	n := memredis.Int(args[1])
	names, digests := args[2:2+n], args[2+n:]
	field := func(key, name string) int { // 0 if malformed
		s, _ := tx.HGet(key, name)
		n, _ := strconv.ParseUint(s, 10, 53)
		return int(n)
	}

	type node struct{ index, load, last int }
	nodes := make([]*node, n)
	for i, name := range names {
		load := field(keys[0], name) + tx.ZCountAbove(keys[2+i], float64(tx.NowMS()))
		nodes[i] = &node{index: i, load: load, last: field(keys[1], name)}
	}
	pick := field(keys[1], "#")
	picked := make([]bool, n)
	reply := make([]any, 1, 1+len(digests))
	reply[0] = int(tx.NowMS())
	life := memredis.Millis(args[0])
	lapse := float64(tx.NowMS() + life.Milliseconds())
	for _, digest := range digests {
		best := slices.MinFunc(nodes, func(a, b *node) int {
			if a.load != b.load {
				return a.load - b.load
			}
			return a.last - b.last // of equals the first
		})
		pick++
		best.load, best.last, picked[best.index] = best.load+1, pick, true
		tx.ZAdd(keys[2+best.index], lapse, digest)
		reply = append(reply, best.index+1)
	}
	tx.HSet(keys[1], "#", strconv.Itoa(pick))
	for i, name := range names {
		if picked[i] {
			tx.Expire(keys[2+i], life)
			tx.HSet(keys[1], name, strconv.Itoa(nodes[i].last))
		}
	}
	return reply
}

func loadEmbedded(tx *memredis.Tx, keys, args []string) any {
	tx.HSet(keys[0], args[0], args[1])
	for _, digest := range args[4:] {
		tx.ZRem(keys[1], digest)
	}
	tx.ZRemUpTo(keys[1], float64(tx.NowMS()))
	if done := memredis.Int(args[2]); done > 0 {
		if first, ok := tx.LIndex(keys[2], 0); ok && first == args[3] {
			tx.LTrim(keys[2], done, -1)
		}
	}
	reply := []any{}
	for _, entry := range tx.LRange(keys[2], 0, -1) {
		reply = append(reply, entry)
	}
	return reply
}

// bootOf returns the boot id in a lease, "" if it has none, and whether the lease is JSON of the right kind.
func bootOf(lease string) (boot string, ok bool) {
	var v any
	if json.Unmarshal([]byte(lease), &v) != nil {
		return "", false
	}
	switch v := v.(type) {
	case map[string]any:
		boot, _ = v["boot"].(string)
		return boot, true
	case []any:
		return "", true
	}
	return "", false
}

func leaseTakeEmbedded(tx *memredis.Tx, keys, args []string) any {
	if held, ok := tx.Get(keys[0]); ok {
		boot, _ := bootOf(held)
		if boot != args[1] && (args[2] == "" || boot != args[2]) {
			return held
		}
	}
	tx.Set(keys[0], args[0], memredis.Millis(args[3]))
	return ""
}

func leaseExtendEmbedded(tx *memredis.Tx, keys, args []string) any {
	held, ok := tx.Get(keys[0])
	if !ok {
		return []any{0}
	}
	if boot, ok := bootOf(held); !ok || boot != args[1] {
		return []any{0, held}
	}
	tx.Set(keys[0], args[0], memredis.Millis(args[2]))
	return []any{1}
}

func leaseDropEmbedded(tx *memredis.Tx, keys, args []string) any {
	if held, ok := tx.Get(keys[0]); ok {
		if boot, ok := bootOf(held); ok && boot != args[0] {
			return 0
		}
		tx.Del(keys[0])
	}
	return 1
}

func generationEmbedded(tx *memredis.Tx, keys, args []string) any {
	now := int(tx.NowMS())
	value, _ := tx.Get(keys[0])
	id, ms, ok := strings.Cut(value, " ")
	born, err := strconv.Atoi(ms)
	if !ok || id == "" || err != nil {
		id, born = args[0], now
		tx.Set(keys[0], id+" "+strconv.Itoa(now), 0)
	}
	return []any{id, max(0, now-born)}
}

func groupDropEmbedded(tx *memredis.Tx, keys, args []string) any {
	if value, ok := tx.HGet(keys[0], args[0]); !ok || value != args[1] {
		return 0
	}
	tx.HDel(keys[0], args[0])
	return 1
}
