package memredis

import (
	"slices"
	"strconv"
	"strings"
)

// zsets are the commands on sorted sets.
type zsets struct{ *keyspace }

type zset struct{ scores map[string]float64 }

func (*zset) kind() string { return "zset" }

// ZAdd sets the score of a member and reports whether it is new.
func (zs zsets) ZAdd(key string, score float64, member string) bool {
	z := objectOf[*zset](zs.keyspace, key)
	if z == nil {
		z = &zset{scores: make(map[string]float64)}
		zs.r.keys[key] = entry{obj: z}
	}
	_, ok := z.scores[member]
	z.scores[member] = score
	return !ok
}

func (zs zsets) scores(key string) map[string]float64 {
	if z := objectOf[*zset](zs.keyspace, key); z != nil {
		return z.scores
	}
	return nil
}

// ZCard returns the number of members.
func (zs zsets) ZCard(key string) int { return len(zs.scores(key)) }

// ZCountAbove returns the number of members whose score is higher than least.
func (zs zsets) ZCountAbove(key string, least float64) int {
	n := 0
	for _, score := range zs.scores(key) {
		if score > least {
			n++
		}
	}
	return n
}

// ZRem removes a member and reports whether there was one.
func (zs zsets) ZRem(key, member string) bool {
	scores := zs.scores(key)
	_, ok := scores[member]
	delete(scores, member)
	zs.dropEmpty(key, scores)
	return ok
}

// ZRemUpTo removes the members whose score is at most most, and returns how many there were.
func (zs zsets) ZRemUpTo(key string, most float64) int {
	scores, n := zs.scores(key), 0
	for member, score := range scores {
		if score <= most {
			delete(scores, member)
			n++
		}
	}
	zs.dropEmpty(key, scores)
	return n
}

func (zs zsets) dropEmpty(key string, scores map[string]float64) {
	if scores != nil && len(scores) == 0 {
		delete(zs.r.keys, key)
	}
}

// ZRange returns members with their scores, lowest first; start and stop are those of LRange.
func (zs zsets) ZRange(key string, start, stop int) []Field {
	scores := zs.scores(key)
	members := make([]string, 0, len(scores))
	for member := range scores {
		members = append(members, member)
	}
	slices.SortFunc(members, func(a, b string) int {
		if d := scores[a] - scores[b]; d != 0 {
			return int(max(-1, min(1, d)))
		}
		return strings.Compare(a, b)
	})
	members = slice(members, start, stop)
	out := make([]Field, len(members))
	for i, m := range members {
		out[i] = Field{m, strconv.FormatFloat(scores[m], 'f', -1, 64)}
	}
	return out
}
