package safe

import (
	"go/ast"
	goparser "go/parser"
	"go/token"
	"go/types"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// unguarded are the goroutines, timers and callbacks that do not go through Go, Recovered or Scraped, by their file and
// what is called, each with the reason why it can't end the process.
var unguarded = map[string]string{
	"plugin/safe/goroutine.go: restarting":          "it is Go itself, and calls f through Recovered",
	"plugin/files/open.go: func literal":            "the work is called through Recovered, and then a channel with room takes the outcome",
	"plugin/source/watch.go: func literal":          "it removes an entry from a map",
	"plugin/source/metrics.go: cancel":              "it ends a context",
	"plugin/source/collector.go: (*pace).collected": "it calls Recovered",
	"plugin/transfer.go: func literal":              "the transfer is sent through Recovered, and then a channel is closed",
	"plugin/wire/socket_linux.go: k.read":           "it recovers from a panic over each batch, and then only closes a channel",
	"plugin/wire/socket_linux.go: k.keep":           "it recovers from a panic at each look, and otherwise only waits",
	"plugin/wire/virtual_linux.go: func literal":    "run recovers, and then a channel is closed",
	"plugin/status/running.go: block.AtStop":        "it takes two locks and appends to a slice",
	"plugin/hostile/hostile.go: func literal":       "tests use it, which must end when an input hangs",
	"build/follow/checker.go: func literal":         "it kills a process that was started",
	"build/follow/follow.go: f.look":                "it puts a token into a channel if there is room",
}

// Every goroutine of this program recovers from panics, so that no input and no fault ends the process. The runtime and
// the registry of metrics start goroutines, too: for timers, ended contexts, cleanups and collectors.
func TestGoroutinesRecover(t *testing.T) {
	used := make(map[string]bool)
	count := 0
	for _, root := range []string{"plugin", "build"} {
		must(t, filepath.WalkDir(filepath.Join("../..", root), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			fset := token.NewFileSet()
			f, err := goparser.ParseFile(fset, path, nil, 0)
			if err != nil {
				return err
			}
			name := strings.TrimPrefix(filepath.ToSlash(path), "../../")
			for at, what := range unrecovered(f) {
				count++
				key := name + ": " + what
				if used[key] = true; unguarded[key] == "" {
					t.Errorf("%s: %s does not recover from a panic: call it through safe.Go, safe.Recovered or safe.Scraped",
						fset.Position(at), what)
				}
			}
			return nil
		}))
	}
	for key := range unguarded {
		if !used[key] {
			t.Errorf("there is no %s any more", key)
		}
	}
	if count < 10 {
		t.Errorf("only %d goroutines were found", count)
	}
}

// unrecovered returns the calls in f that run on goroutines of their own and are not known to recover.
func unrecovered(f *ast.File) map[token.Pos]string {
	found := make(map[token.Pos]string)
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			found[n.Pos()] = calledBy(n.Call.Fun)
		case *ast.FuncDecl:
			if n.Name.Name == "Collect" && n.Recv != nil && !recovers(n.Body) {
				found[n.Pos()] = n.Name.Name
			}
		case *ast.CallExpr:
			of, ok := n.Fun.(*ast.SelectorExpr)
			switch {
			case !ok || len(n.Args) == 0:
			case of.Sel.Name == "AfterFunc" || of.Sel.Name == "AddCleanup":
				if f, ok := n.Args[1].(*ast.FuncLit); !ok || !recovers(f.Body) {
					found[n.Pos()] = calledBy(n.Args[1])
				}
			case of.Sel.Name == "Notify" && types.ExprString(of.X) == "signal":
				found[n.Pos()] = "signal.Notify" // its receiver has to be looked at
			case of.Sel.Name == "Go" && types.ExprString(of.X) != "safe":
				found[n.Pos()] = types.ExprString(of)
			}
		}
		return true
	})
	return found
}

// recovers reports whether a body is nothing but a call of Recovered or Scraped.
func recovers(body *ast.BlockStmt) bool {
	if len(body.List) != 1 {
		return false
	}
	guarded := false
	ast.Inspect(body.List[0], func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if ok && !guarded {
			name := types.ExprString(call.Fun)
			guarded = slices.Contains([]string{"Recovered", "Scraped"}, strings.TrimPrefix(name, "safe."))
			return false // only the outermost call counts
		}
		return !guarded
	})
	return guarded
}

// calledBy names the function that an expression calls.
func calledBy(e ast.Expr) string {
	if _, ok := e.(*ast.FuncLit); ok {
		return "func literal"
	}
	return types.ExprString(e)
}

// The check finds every way to start a goroutine.
func TestUnrecovered(t *testing.T) {
	for body, want := range map[string]string{
		"go f()": "f", "go a.b()": "a.b", "go func() {}()": "func literal", "time.AfterFunc(d, f)": "f", "time.AfterFunc(d, func() { f() })": "func literal",
		"context.AfterFunc(ctx, func() { g(func() { Recovered(w, f) }) })": "func literal", "group.Go(f)": "group.Go", "runtime.AddCleanup(p, f, x)": "f",
		"signal.Notify(c, s)": "signal.Notify",
		"safe.Go(ctx, w, f)":  "", "Go(ctx, w, f)": "", "time.AfterFunc(d, func() { _ = safe.Recovered(w, f) })": "", "f()": "",
	} {
		f, err := goparser.ParseFile(token.NewFileSet(), "f.go", "package p\nfunc x() {\n"+body+"\n}", 0)
		must(t, err)
		got := ""
		for _, what := range unrecovered(f) {
			got += what
		}
		if got != want {
			t.Errorf("%s: found %q, want %q", body, got, want)
		}
	}
	for decl, want := range map[string]int{
		"func (c x) Collect(ch chan<- m) { ch <- c.m }": 1, "func (c x) Collect(ch chan<- m) { Scraped(w, func() { ch <- c.m }) }": 0,
	} {
		f, err := goparser.ParseFile(token.NewFileSet(), "f.go", "package p\n"+decl, 0)
		must(t, err)
		if got := unrecovered(f); len(got) != want {
			t.Errorf("%s: found %v, want %d", decl, got, want)
		}
	}
}
