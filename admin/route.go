package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"slices"
	"strings"
)

// call is one request: its path and query values.
type call struct {
	ctx context.Context
	req *http.Request
}

func (c call) path(name string) string  { return c.req.PathValue(name) }
func (c call) query(name string) string { return c.req.URL.Query().Get(name) }

// route is one call of the API: what serves it, and what its description is made of.
type route struct {
	method, path, summary string
	query                 []string // Names of what may follow the path.
	in, out               reflect.Type
	serve                 func(*Server, call, []byte) (any, error)
}

// none is the body of requests that have none.
type none struct{}

// on makes a route of a function from its body to its answer.
func on[In, Out any](method, path, summary string, query []string, fn func(*Server, call, In) (Out, error)) route {
	return route{method, path, summary, query, reflect.TypeFor[In](), reflect.TypeFor[Out](), func(s *Server, c call, body []byte) (any, error) {
		var in In
		if reflect.TypeFor[In]() != reflect.TypeFor[none]() {
			if err := decode(body, &in); err != nil {
				return nil, err
			}
		}
		return fn(s, c, in)
	}}
}

// bodyMax bounds a request: the largest is a few names long.
const bodyMax = 64 << 10

// decode reads exactly one JSON value with known fields.
func decode(body []byte, into any) error {
	d := json.NewDecoder(strings.NewReader(string(body)))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return &problemError{http.StatusBadRequest, Problem{Error: "invalid", Text: "the body is not the JSON that this call takes: " + err.Error()}}
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return &problemError{http.StatusBadRequest, Problem{Error: "invalid", Text: "there is more behind the JSON value"}}
	}
	return nil
}

// problemError is a refusal with its status.
type problemError struct {
	status  int
	problem Problem
}

func (e *problemError) Error() string {
	if e.problem.Field != "" {
		return e.problem.Field + ": " + e.problem.Text
	}
	return e.problem.Text
}

func missing(format string, args ...any) error {
	return &problemError{http.StatusNotFound, Problem{Error: "not_found", Text: fmt.Sprintf(format, args...)}}
}

// OpenAPI describes the API in the words of OpenAPI 3.1, as JSON.
func OpenAPI() []byte {
	schemas := map[string]any{}
	paths := map[string]map[string]any{}
	for _, r := range routes {
		operation := map[string]any{
			"summary":  r.summary,
			"security": []any{map[string]any{"operator": []string{}}},
			"responses": map[string]any{
				"200":     map[string]any{"description": "Done.", "content": content(r.out, schemas)},
				"default": map[string]any{"description": "Refused.", "content": content(reflect.TypeFor[Problem](), schemas)},
			},
		}
		var parameters []any
		for part := range strings.SplitSeq(r.path, "/") {
			if strings.HasPrefix(part, "{") {
				parameters = append(parameters, map[string]any{"name": strings.Trim(part, "{}"), "in": "path", "required": true, "schema": kind("string")})
			}
		}
		for _, name := range r.query {
			parameters = append(parameters, map[string]any{"name": name, "in": "query", "schema": kind("string")})
		}
		if parameters != nil {
			operation["parameters"] = parameters
		}
		if r.in != reflect.TypeFor[none]() {
			operation["requestBody"] = map[string]any{"required": true, "content": content(r.in, schemas)}
		}
		path := Prefix + r.path
		if paths[path] == nil {
			paths[path] = map[string]any{}
		}
		paths[path][strings.ToLower(r.method)] = operation
	}
	text, err := json.MarshalIndent(map[string]any{
		"openapi": "3.1.0",
		"info": map[string]any{"title": "Tillgate, operators' API", "version": "1",
			"description": "Lists come in parts: pass next as after. Amounts are minor units. Times are RFC 3339."},
		"paths": paths,
		"components": map[string]any{"schemas": schemas,
			"securitySchemes": map[string]any{"operator": map[string]any{"type": "http", "scheme": "bearer",
				"description": "The operator's token: operator.token in the data folder."}}},
	}, "", "  ")
	if err != nil {
		panic("admin: " + err.Error()) // Made of maps, texts and lists only.
	}
	return append(text, '\n')
}

func kind(name string) map[string]any { return map[string]any{"type": name} }

func content(t reflect.Type, schemas map[string]any) map[string]any {
	return map[string]any{"application/json": map[string]any{"schema": schema(t, schemas)}}
}

// schema describes a type; structs get a name of their own.
func schema(t reflect.Type, schemas map[string]any) map[string]any {
	switch {
	case t.PkgPath() == "time" && t.Name() == "Time":
		return map[string]any{"type": "string", "format": "date-time"}
	case t == reflect.TypeFor[json.RawMessage]():
		return kind("object")
	}
	switch t.Kind() {
	case reflect.String:
		return kind("string")
	case reflect.Bool:
		return kind("boolean")
	case reflect.Int, reflect.Int64:
		return kind("integer")
	case reflect.Slice:
		return map[string]any{"type": "array", "items": schema(t.Elem(), schemas)}
	case reflect.Struct:
	default:
		panic("admin: no schema for " + t.String())
	}
	name := t.Name()
	if inner, ok := strings.CutPrefix(name, "Page["); ok {
		name = "PageOf" + inner[strings.LastIndexByte(inner, '.')+1:len(inner)-1]
	}
	if _, known := schemas[name]; !known {
		schemas[name] = nil // It may contain itself.
		properties := map[string]any{}
		var required []string
		for i := range t.NumField() {
			field, options, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
			properties[field] = schema(t.Field(i).Type, schemas)
			if !strings.Contains(options, "omit") {
				required = append(required, field)
			}
		}
		slices.Sort(required)
		object := map[string]any{"type": "object", "properties": properties}
		if required != nil {
			object["required"] = required
		}
		schemas[name] = object
	}
	return map[string]any{"$ref": "#/components/schemas/" + name}
}
