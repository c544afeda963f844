package stockmodel

import (
	"bytes"
	"encoding/json"
	"math"
)

// object is a JSON object as the Qt parser returns it: a value of another type than the requested one reads as that
// type's zero.
type object map[string]any

// parse returns nil for anything that is not a JSON object.
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

// num is Qt's toInt: anything but an integral number within 32 bits reads as 0.
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

// list is Qt's toArray, with each element converted to an object; anything else reads as empty.
func (o object) list(key string) []object {
	items, _ := o[key].([]any)
	out := make([]object, len(items))
	for i, item := range items {
		m, _ := item.(map[string]any)
		out[i] = m
	}
	return out
}
