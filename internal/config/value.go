package config

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"
)

var durationType = reflect.TypeFor[time.Duration]()

// kindOf names the values a key of type t takes, for people. It returns "" for a type that cannot be a key.
func kindOf(t reflect.Type, name string) string {
	switch {
	case t == durationType:
		return "duration"
	case t.Kind() == reflect.String:
		return "text"
	case t.Kind() == reflect.Bool:
		return "true or false"
	case t.Kind() == reflect.Float64:
		return "number"
	case t.Kind() >= reflect.Int && t.Kind() <= reflect.Int64, t.Kind() >= reflect.Uint && t.Kind() <= reflect.Uint64:
		if isBytes(name) {
			return "bytes"
		}
		return "whole number"
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.String:
		return "list"
	}
	return ""
}

func isBytes(name string) bool { return strings.HasSuffix(name, "Bytes") }

// byteUnits from the largest, so that formatting finds the shortest form.
var byteUnits = []struct {
	suffix string
	size   int64
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}}

// parseValue stores text in v, the field of a key called name.
func parseValue(v reflect.Value, name, text string) error {
	switch kindOf(v.Type(), name) {
	case "text":
		v.SetString(text)
	case "duration":
		d, err := time.ParseDuration(text)
		if err != nil {
			return errors.New("is not a duration, want a number with its unit such as 250ms, 10s or 5m")
		}
		v.SetInt(int64(d))
	case "true or false":
		switch strings.ToLower(text) {
		case "true", "yes", "on", "1":
			v.SetBool(true)
		case "false", "no", "off", "0":
			v.SetBool(false)
		default:
			return errors.New("is neither true nor false")
		}
	case "number":
		f, err := strconv.ParseFloat(text, 64)
		if err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
			return errors.New("is not a number")
		}
		v.SetFloat(f)
	case "list":
		list := []string{}
		for item := range strings.SplitSeq(text, ",") {
			if item = strings.TrimSpace(item); item != "" {
				list = append(list, item)
			}
		}
		v.Set(reflect.ValueOf(list).Convert(v.Type()))
	default:
		return parseInt(v, name, text)
	}
	return nil
}

func parseInt(v reflect.Value, name, text string) error {
	unit, want := int64(1), "is not a whole number"
	if isBytes(name) {
		want = "is not a size, want bytes or a number with KiB, MiB or GiB"
		for _, u := range byteUnits {
			if number, ok := strings.CutSuffix(text, u.suffix); ok {
				text, unit = strings.TrimSpace(number), u.size
				break
			}
		}
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if errors.Is(err, strconv.ErrRange) {
		return errors.New("is out of range")
	}
	if err != nil {
		return errors.New(want)
	}
	if n > math.MaxInt64/unit || n < math.MinInt64/unit {
		return errors.New("is out of range")
	}
	n *= unit
	if v.CanUint() {
		if n < 0 || v.OverflowUint(uint64(n)) {
			return errors.New("is out of range")
		}
		v.SetUint(uint64(n))
		return nil
	}
	if v.OverflowInt(n) {
		return errors.New("is out of range")
	}
	v.SetInt(n)
	return nil
}

// formatValue is the inverse of parseValue.
func formatValue(v reflect.Value, name string) string {
	switch kindOf(v.Type(), name) {
	case "text":
		return v.String()
	case "duration":
		return formatDuration(time.Duration(v.Int()))
	case "list":
		items := make([]string, v.Len())
		for i := range items {
			items[i] = v.Index(i).String()
		}
		return strings.Join(items, ",")
	case "bytes":
		if n := asInt(v); n != 0 {
			for _, u := range byteUnits {
				if n%u.size == 0 {
					return fmt.Sprintf("%d%s", n/u.size, u.suffix)
				}
			}
		}
	}
	return fmt.Sprint(v.Interface())
}

// formatDuration drops the zero units that time.Duration prints: 10m instead of 10m0s.
func formatDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

func asInt(v reflect.Value) int64 {
	if v.CanUint() {
		return int64(v.Uint())
	}
	return v.Int()
}

// compare orders two values of the same key; lists and texts have no order.
func compare(a, b reflect.Value) int {
	if a.CanFloat() {
		switch {
		case a.Float() < b.Float():
			return -1
		case a.Float() > b.Float():
			return 1
		}
		return 0
	}
	switch x, y := asInt(a), asInt(b); {
	case x < y:
		return -1
	case x > y:
		return 1
	}
	return 0
}

// Values returns the keys of a section with their values, as --print-config shows them; secrets are left out.
func Values(section any) map[string]string {
	values := map[string]string{}
	eachField(reflect.ValueOf(section), func(field reflect.StructField, v reflect.Value) {
		if name := nameOf(field); kindOf(v.Type(), name) != "" && field.Tag.Get("secret") != "true" {
			values[name] = formatValue(v, name)
		}
	})
	return values
}
