package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"reflect"

	"github.com/knadh/koanf/parsers/toml/v2"
	"github.com/knadh/koanf/parsers/yaml"
)

// DocumentFormats are the forms that Write knows.
func DocumentFormats() []string { return []string{"json", "yaml", "toml"} }

// Write writes every key of src, a structure that Load could fill, with its value, secrets included: it is meant
// for defaults. JSON has the keys in the order of the structures, the other formats sort them.
func Write(w io.Writer, src any, format string) error {
	var b bytes.Buffer
	if err := encode(&b, reflect.Indirect(reflect.ValueOf(src))); err != nil {
		return err
	}
	var out []byte
	switch format {
	case "json":
		var pretty bytes.Buffer
		if err := json.Indent(&pretty, b.Bytes(), "", "  "); err != nil {
			return fmt.Errorf("config: %w", err)
		}
		pretty.WriteByte('\n')
		out = pretty.Bytes()
	case "yaml", "toml":
		d := json.NewDecoder(&b)
		d.UseNumber()
		var m map[string]any
		if err := d.Decode(&m); err != nil {
			return fmt.Errorf("config: %w", err)
		}
		numbers(m)
		var err error
		if format == "yaml" {
			out, err = yaml.Parser().Marshal(m)
		} else {
			out, err = toml.Parser().Marshal(m)
		}
		if err != nil {
			return fmt.Errorf("config: %w", err)
		}
	default:
		return fmt.Errorf("config: the format %q is unknown", format)
	}
	_, err := w.Write(out)
	return err
}

// encode writes v as JSON, inlined structures in their parent.
func encode(b *bytes.Buffer, v reflect.Value) error {
	switch {
	case v.Type().Implements(reflect.TypeFor[json.Marshaler]()):
	case v.Kind() == reflect.Struct:
		b.WriteByte('{')
		for i, f := range fieldsOf(v.Type()) {
			if i > 0 {
				b.WriteByte(',')
			}
			fmt.Fprintf(b, "%q:", f.name)
			if err := encode(b, v.FieldByIndex(f.index)); err != nil {
				return err
			}
		}
		b.WriteByte('}')
		return nil
	case v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Struct:
		b.WriteByte('[')
		for i := range v.Len() {
			if i > 0 {
				b.WriteByte(',')
			}
			if err := encode(b, v.Index(i)); err != nil {
				return err
			}
		}
		b.WriteByte(']')
		return nil
	case v.Kind() == reflect.Slice && v.Len() == 0:
		b.WriteString("[]")
		return nil
	case v.Kind() == reflect.Map && v.Len() == 0:
		b.WriteString("{}")
		return nil
	}
	data, err := json.Marshal(v.Interface())
	if err != nil {
		return fmt.Errorf("config: %w", err)
	}
	b.Write(data)
	return nil
}

// numbers turns the numbers below m into int64 or float64.
func numbers(m any) any {
	switch t := m.(type) {
	case map[string]any:
		for k, v := range t {
			t[k] = numbers(v)
		}
	case []any:
		for i, v := range t {
			t[i] = numbers(v)
		}
	case json.Number:
		if n, err := t.Int64(); err == nil {
			return n
		}
		f, _ := t.Float64()
		return f
	}
	return m
}
