package rest

import (
	"bytes"
	"os"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/gantryhq/gantry/httpapi"
	"github.com/gantryhq/gantry/internal/guard"
)

// TestDocument holds routes, the types that they read and write, and openapi.yaml together. With
// GANTRY_UPDATE_OPENAPI=1 it writes the file anew.
func TestDocument(t *testing.T) {
	ops := operations()
	used := map[string]bool{}
	for _, r := range allRoutes() {
		op, ok := ops[r.ID]
		if !ok || op.what == "" {
			t.Errorf("%s %s: operations has no %q", r.Method, r.Path, r.ID)
		}
		used[r.ID] = true
	}
	ofUsers := userOperations()
	for id := range ops {
		if _, later := ofUsers[id]; later && !used["getUserProfile"] { // users' calls come all at once
			continue
		}
		if !used[id] {
			t.Errorf("operations documents %q, which is no route", id)
		}
	}
	want, err := makeDocument(allRoutes())
	if err != nil {
		t.Fatal(err)
	}
	if os.Getenv("GANTRY_UPDATE_OPENAPI") != "" {
		if err := os.WriteFile("openapi.yaml", want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if !bytes.Equal(want, openapiYAML) {
		t.Error("openapi.yaml is not that of the routes and types; run: GANTRY_UPDATE_OPENAPI=1 go test -run TestDocument ./httpapi/rest")
	}
	var doc struct {
		OpenAPI string
		Paths   map[string]map[string]struct{ Responses map[string]any }
		Comp    struct{ Schemas, Responses map[string]any } `yaml:"components"`
	}
	if err := yaml.Unmarshal(want, &doc); err != nil {
		t.Fatal(err)
	}
	for path, methods := range doc.Paths {
		for m, op := range methods {
			if len(op.Responses) < 2 {
				t.Errorf("%s %s says nothing of its answers", m, path)
			}
		}
	}
	for _, m := range regexp.MustCompile(`#/components/(schemas|responses)/(\w+)`).FindAllSubmatch(want, -1) {
		set := doc.Comp.Schemas
		if string(m[1]) == "responses" {
			set = doc.Comp.Responses
		}
		if set[string(m[2])] == nil {
			t.Errorf("nothing stands at %s", m[0])
		}
	}
}

// TestPageOfTheDocument: no script and nothing from elsewhere (WEB-1).
func TestPageOfTheDocument(t *testing.T) {
	s := newServer(t)
	page := s.nobody().get("//openapi").want(200).has("/api/v2/users/{name}").lacks("<script").lacks(`src=`).lacks("http://").lacks("https://")
	if csp := page.Header.Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") {
		t.Errorf("policy %q", csp)
	}
	s.nobody().get("//openapi/openapi.yaml").want(200).has("openapi: 3.0.3")
	off := newServer(t, func(c *httpapi.Config, _ *guard.Config) { c.Bindings[0].RenderOpenAPI = false })
	off.nobody().get("//openapi").want(404)
	off.nobody().get("//openapi/openapi.yaml").want(404)
}
