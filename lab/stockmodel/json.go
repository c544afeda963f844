package stockmodel

import (
	"bytes"
	"encoding/json"
	"math"
)

// object is a JSON object as the Qt parser sees it: a value of another type than the one asked for reads as its zero.
type object map[string]any

// parse returns nil for anything but a JSON object.
func parse(body []byte) object {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var o object
	if d.Decode(&o) != nil || d.More() {
		return nil
	}
	return o
}

func (o object) has(key string) bool { _, ok := o[key]; return ok }

// num is toInt: only an integral number within 32 bits counts, anything else is 0.
func (o object) num(key string) int64 {
	n, ok := o[key].(json.Number)
	if !ok {
		return 0
	}
	f, err := n.Float64()
	if err != nil || f != math.Trunc(f) || f < math.MinInt32 || f > math.MaxInt32 {
		return 0
	}
	return int64(f)
}

func (o object) str(key string) string { s, _ := o[key].(string); return s }

func (o object) truth(key string) bool { b, _ := o[key].(bool); return b }

// list is toArray of objects; what is none of either is an empty one.
func (o object) list(key string) []object {
	items, _ := o[key].([]any)
	out := make([]object, len(items))
	for i, item := range items {
		m, _ := item.(map[string]any)
		out[i] = m
	}
	return out
}
