package gantry

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/gantryhq/gantry/"

// mayImport is which of our packages a package may import, with all that lies below each name. What is not
// listed is forbidden; the reason stands beside it.
var mayImport = map[string]struct {
	ours []string
	why  string
}{
	"cmd/gantry":       {[]string{"*"}, ""},
	"engine":           {nil, "the network knows no protocol"},
	"ssh":              {[]string{"ssh", "internal/session", "vfs"}, "a protocol reaches accounts and storage through session alone, and no other protocol"},
	"ftp":              {[]string{"engine", "internal/life", "internal/session", "vfs"}, "a protocol reaches accounts and storage through session alone, and no other protocol"},
	"dav":              {[]string{"engine", "internal/life", "internal/session", "vfs"}, "a protocol reaches accounts and storage through session alone, and no other protocol"},
	"ssh/sftp":         {[]string{"internal/session", "vfs"}, "a protocol reaches accounts and storage through session alone, and no other protocol"},
	"httpapi":          {[]string{"httpapi", "engine", "internal/session", "internal/admin", "internal/account", "vfs"}, "requests are decoded and answered; what they do is admin's and session's"},
	"internal/admin":   {[]string{"internal/account", "internal/auth", "internal/session", "internal/event", "internal/guard", "internal/secret", "vfs"}, "an operation knows no wire"},
	"internal/session": {[]string{"internal/account", "internal/auth", "internal/event", "internal/guard", "internal/life", "vfs", "cache"}, "protocols call session, never the other way"},
	"internal/auth":    {[]string{"internal/account", "internal/secret", "internal/event", "internal/life", "cache"}, "who may log in knows no session and no storage"},
	"internal/event":   {[]string{"internal/account", "internal/event/hook"}, "what happened is told, not done, here"},
	"internal/convert": {[]string{"internal/account"}, "other servers' files become records, nothing else"},
	"internal/account": {[]string{"internal/account", "internal/secret"}, "records know no behaviour"},
	"internal/life":    {nil, "an end is the same for everybody"},
	"internal/guard":   {nil, "the gate knows addresses only"},
	"internal/secret":  {nil, "sealed values know no records"},
	"internal/config":  {nil, "any structure is filled, none is known"},
	"internal/egress":  {nil, "an address is judged by itself"},
	"internal/logs":    {nil, "records are written, not understood"},
	"vfs":              {[]string{"vfs"}, "storage knows no account, session or protocol"},
	"vfs/object":       {[]string{"vfs"}, "objects are a tree whatever the vendor"},
	"pprof":            {nil, "telemetry shows what it is given and knows no part"},
	"bench":            {[]string{"bench"}, "it measures the built binary from outside"},
	"cache":            {nil, "a memo knows nothing of what it keeps"},
}

// TestImportsPointOneWay holds the house's table of who may import whom.
func TestImportsPointOneWay(t *testing.T) {
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", "./...").Output()
	if err != nil {
		t.Fatal(err)
	}
	for d := json.NewDecoder(strings.NewReader(string(out))); d.More(); {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := d.Decode(&p); err != nil {
			t.Fatal(err)
		}
		name := strings.TrimPrefix(p.ImportPath, module)
		if strings.HasSuffix(name, "test") { // suites and helpers of tests stand above what they test
			continue
		}
		row, room := mayImport[name], name
		for row.ours == nil && row.why == "" && room != "." {
			room = filepath.Dir(room)
			row = mayImport[room]
		}
		for _, i := range p.Imports {
			if i == "github.com/pkg/sftp" {
				t.Errorf("%s imports %s: the server is our own, it is for tests and benchmarks", name, i)
			}
			ours, ok := strings.CutPrefix(i, module)
			if !ok || ours == name {
				continue
			}
			if !slices.ContainsFunc(row.ours, func(a string) bool { return a == "*" || ours == a || strings.HasPrefix(ours, a+"/") }) {
				t.Errorf("%s must not import %s: %s", name, ours, row.why)
			}
		}
	}
}

// TestNoInitFunctions: cmd/gantry wires every part by hand.
func TestNoInitFunctions(t *testing.T) {
	out, err := exec.Command("git", "grep", "-nE", `^func init\(\)`, "--", "*.go").Output()
	if len(out) > 0 || err == nil {
		t.Errorf("init functions:\n%s", out)
	}
}
