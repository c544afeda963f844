package memredis

import (
	"slices"
)

// hashes are the commands on hashes.
type hashes struct{ *keyspace }

// A Field is a field of a hash.
type Field struct{ Name, Value string }

// hash keeps its fields in the order in which they were set, as Redis does with small ones. All of Parley's are small:
// sessions of a user, nodes of a cluster.
type hash struct{ fields []Field }

func (*hash) kind() string { return "hash" }

// HGet returns a field, and false if there is none.
func (hs hashes) HGet(key, field string) (string, bool) {
	if h := objectOf[*hash](hs.keyspace, key); h != nil {
		if i := h.index(field); i >= 0 {
			return h.fields[i].Value, true
		}
	}
	return "", false
}

func (h *hash) index(field string) int {
	return slices.IndexFunc(h.fields, func(f Field) bool { return f.Name == field })
}

// HGetAll returns the fields. The caller must not change them, nor keep them after the next write.
func (hs hashes) HGetAll(key string) []Field {
	if h := objectOf[*hash](hs.keyspace, key); h != nil {
		return h.fields
	}
	return nil
}

// HSet writes a field and reports whether it is new.
func (hs hashes) HSet(key, field, value string) bool {
	h := objectOf[*hash](hs.keyspace, key)
	if h == nil {
		h = &hash{}
		hs.r.keys[key] = entry{obj: h}
	}
	if i := h.index(field); i >= 0 {
		h.fields[i].Value = value
		return false
	}
	h.fields = append(h.fields, Field{field, value})
	return true
}

// HSetNX writes a field unless it exists, and reports whether it did.
func (hs hashes) HSetNX(key, field, value string) bool {
	if _, ok := hs.HGet(key, field); ok {
		return false
	}
	return hs.HSet(key, field, value)
}

// HDel removes a field and reports whether there was one.
func (hs hashes) HDel(key, field string) bool {
	h := objectOf[*hash](hs.keyspace, key)
	if h == nil {
		return false
	}
	i := h.index(field)
	if i < 0 {
		return false
	}
	h.fields = slices.Delete(h.fields, i, i+1)
	if len(h.fields) == 0 {
		delete(hs.r.keys, key)
	}
	return true
}
