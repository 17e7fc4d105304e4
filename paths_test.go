package gantry

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// mayTakeText are the strings that exported functions, methods and fields of the storage and session layers
// take, and why each is no path of a peer (PATH-1). What is not listed takes a vfs.Path.
var mayTakeText = map[string]string{
	"vfs.ParsePath.raw":                          "the constructor",
	"vfs.ParseConfigPath.raw":                    "the constructor for configuration",
	"vfs.Path.Resolve.raw":                       "the constructor",
	"vfs.Path.Child.name":                        "one name, checked to be one",
	"vfs.Tree.HasChild.name":                     "one name of a listing, compared only",
	"vfs.VirtualDir.name":                        "one name, shown only",
	"vfs.IsTempName.name":                        "one name, compared only",
	"vfs.CheckLinkTarget.target":                 "a link's text, which this checks",
	"vfs.Linker.Symlink.target":                  "a link's text is stored as it is; the storage follows it beneath its root",
	"vfs.Description.StoragePath":                "the way out: for hooks and logs",
	"vfs/local.New.root":                         "the operator's directory",
	"vfs/local.FS.Symlink.target":                "a Linker",
	"vfs/mem.FS.Symlink.target":                  "a Linker",
	"vfs/sftpfs.FS.Symlink.target":               "a Linker",
	"vfs/object.Bucket.Begin.key":                "a key, made of a Path by the tree alone",
	"vfs/object.Bucket.Copy.to":                  "a key, made of a Path by the tree alone",
	"vfs/object.Bucket.Delete.keys":              "a key, made of a Path by the tree alone",
	"vfs/object.Bucket.Get.key":                  "a key, made of a Path by the tree alone",
	"vfs/object.Bucket.Head.key":                 "a key, made of a Path by the tree alone",
	"vfs/object.Bucket.Put.key":                  "a key, made of a Path by the tree alone",
	"vfs/object.Bucket.Sweep.prefix":             "a key, made of a Path by the tree alone",
	"vfs/object.EscapeName.name":                 "a Path's text on its way to a service",
	"vfs/object.UnescapeName.text":               "a service's text, checked to be one name afterwards",
	"vfs/object.Pool.Open.key":                   "of equal settings, compared only",
	"vfs/object.PoolKey.kind":                    "a vendor's name",
	"vfs/object.Bucket.Get.version":              "the service's own text, given back to it",
	"vfs/crypt.New.passphrase":                   "a secret",
	"internal/session.TransferInfo.Path":         "the way out: for the list of transfers",
	"internal/session.Session.Symlink.target":    "a link's text, which may be relative; it is resolved and its rights are asked first",
	"internal/session.Session.Hash.algo":         "an algorithm",
	"internal/session.Session.HashBlocks.algo":   "an algorithm",
	"internal/session.Session.Ran.name":          "a command's name",
	"internal/session.LocalTree.Close.command":   "a command's name",
	"internal/session.Accounts.Folder.name":      "a record's name",
	"internal/session.Accounts.User.name":        "a record's name",
	"internal/session.Server.Abandoned.tried":    "login methods",
	"internal/session.Server.Abandoned.username": "a record's name",
	"internal/session.Server.Kill.id":            "a connection's id",
	"internal/session.Server.System.user":        "a record's name",
	"internal/session.Server.System.protocol":    "a protocol",
	"internal/session.Server.Refused.username":   "a record's name, as typed",
	"internal/session.Server.Refused.protocol":   "a protocol",
	"internal/session.Server.Refused.method":     "a login method",
	"internal/session.Server.KillUser.name":      "a record's name",
	"internal/session.Server.Recheck.names":      "records' names",
	"internal/session.Server.BreakLock.token":    "a lock's token",
	"internal/session.Session.RefreshLock.token": "a lock's token",
	"internal/session.Session.Unlock.token":      "a lock's token",
	"internal/session.WithLockTokens.tokens":     "locks' tokens",
}

// mayUseFiles are functions of the operating system's paths that a package of virtual paths uses all the same.
var mayUseFiles = map[string]string{
	"internal/session path/filepath.Clean": "compares where two storages are, by what they describe",
}

// TestPathsCrossLayersAsPathsOnly looks at the types of the whole program: a peer's bytes become a vfs.Path
// in one constructor, and nothing below takes a string in its place.
func TestPathsCrossLayersAsPathsOnly(t *testing.T) { // PATH-1
	pkgs := checkTypes(t)
	seen := map[string]bool{}
	for _, p := range pkgs {
		name := strings.TrimPrefix(p.ImportPath, module)
		for _, f := range p.files {
			ast.Inspect(f, func(n ast.Node) bool {
				lit, ok := n.(*ast.CompositeLit)
				if ok && len(lit.Elts) > 0 && isPath(p.info.TypeOf(lit)) && filepath.Base(p.fset.Position(lit.Pos()).Filename) != "path.go" {
					t.Errorf("%s: a Path is built by hand; only its constructors may", p.fset.Position(lit.Pos()))
				}
				return true
			})
		}
		if name != "internal/session" && name != "vfs" && !strings.HasPrefix(name, "vfs/") || strings.HasSuffix(name, "test") {
			continue
		}
		for _, x := range textsOf(p.types) {
			key := name + "." + x
			seen[key] = true
			if _, ok := mayTakeText[key]; !ok {
				t.Errorf("%s takes text: give it a vfs.Path, or list it in mayTakeText with the reason", key)
			}
		}
	}
	for key := range mayTakeText {
		if !seen[key] {
			t.Errorf("mayTakeText lists %s, which is not there", key)
		}
	}
}

// TestProtocolsReachNoFilesOfTheSystem: what a protocol opens, it opens through its session.
func TestProtocolsReachNoFilesOfTheSystem(t *testing.T) { // PATH-1
	for _, p := range checkTypes(t) {
		name := strings.TrimPrefix(p.ImportPath, module)
		if name != "ssh/sftp" && name != "ssh/scp" && name != "internal/session" {
			continue
		}
		for id, obj := range p.info.Uses {
			f, ok := obj.(*types.Func)
			if !ok || f.Pkg() == nil {
				continue
			}
			recv := f.Signature().Recv()
			if _, ok := mayUseFiles[name+" "+f.Pkg().Path()+"."+f.Name()]; ok {
				continue
			}
			if path := f.Pkg().Path(); recv == nil && (path == "os" || path == "path/filepath" || path == "syscall" || path == "os/exec") {
				t.Errorf("%s: %s.%s in a package that has only virtual paths", p.fset.Position(id.Pos()), path, f.Name())
			}
		}
	}
}

// isPath reports whether t is vfs.Path.
func isPath(t types.Type) bool {
	n, ok := types.Unalias(t).(*types.Named)
	return ok && n.Obj().Name() == "Path" && n.Obj().Pkg() != nil && n.Obj().Pkg().Path() == module+"vfs"
}

// textsOf lists the parameters and fields of text that a package offers to others, as Func.param, Type.Method.param
// and Type.Field.
func textsOf(pkg *types.Package) []string {
	var out []string
	params := func(prefix string, sig *types.Signature) {
		for i := range sig.Params().Len() {
			if v := sig.Params().At(i); isText(v.Type()) {
				out = append(out, prefix+"."+v.Name())
			}
		}
	}
	scope := pkg.Scope()
	for _, name := range scope.Names() {
		if !token.IsExported(name) {
			continue
		}
		switch o := scope.Lookup(name).(type) {
		case *types.Func:
			params(name, o.Signature())
		case *types.TypeName:
			n, ok := types.Unalias(o.Type()).(*types.Named)
			if !ok || n.Obj().Pkg() != pkg {
				continue
			}
			for m := range n.Methods() {
				if m.Exported() {
					params(name+"."+m.Name(), m.Signature())
				}
			}
			switch u := n.Underlying().(type) {
			case *types.Interface:
				for m := range u.ExplicitMethods() {
					params(name+"."+m.Name(), m.Signature())
				}
			case *types.Struct:
				for f := range u.Fields() {
					if f.Exported() && isText(f.Type()) && strings.Contains(strings.ToLower(f.Name()), "path") {
						out = append(out, name+"."+f.Name())
					}
				}
			}
		}
	}
	slices.Sort(out)
	return out
}

// isText reports whether t can carry a peer's path: a string, strings, or a type made of one.
func isText(t types.Type) bool {
	switch u := t.Underlying().(type) {
	case *types.Basic:
		return u.Kind() == types.String
	case *types.Slice:
		b, ok := u.Elem().Underlying().(*types.Basic)
		return ok && b.Kind() == types.String
	}
	return false
}

// checked is one of our packages with its types.
type checked struct {
	ImportPath, Dir, Export string
	GoFiles, CgoFiles       []string
	Standard                bool

	fset  *token.FileSet
	files []*ast.File
	info  *types.Info
	types *types.Package
}

// checkTypes reads every package of the module. The compiler's export files tell about the rest.
func checkTypes(t *testing.T) []*checked {
	t.Helper()
	cmd := exec.Command("go", "list", "-export", "-deps", "-json=ImportPath,Dir,Export,GoFiles,CgoFiles,Standard", "./...")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	exports := map[string]string{}
	var ours []*checked
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		p := new(checked)
		if err := d.Decode(p); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		exports[p.ImportPath] = p.Export
		if strings.HasPrefix(p.ImportPath, module) {
			ours = append(ours, p)
		}
	}
	fset := token.NewFileSet()
	imp := importer.ForCompiler(fset, "gc", func(path string) (io.ReadCloser, error) {
		if exports[path] == "" {
			return nil, fmt.Errorf("no export file of %s", path)
		}
		return os.Open(exports[path])
	})
	for _, p := range ours {
		p.fset, p.info = fset, &types.Info{Types: map[ast.Expr]types.TypeAndValue{}, Uses: map[*ast.Ident]types.Object{}}
		for _, name := range p.GoFiles {
			f, err := parser.ParseFile(fset, filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			p.files = append(p.files, f)
		}
		if p.types, err = (&types.Config{Importer: imp}).Check(p.ImportPath, fset, p.files, p.info); err != nil {
			t.Fatalf("%s: %v", p.ImportPath, err)
		}
	}
	if len(ours) < 10 {
		t.Fatalf("%d packages of ours were read", len(ours))
	}
	return ours
}
