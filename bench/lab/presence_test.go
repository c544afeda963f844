package lab

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The profiles of nodes name functions. Those that the exchange of presence is counted by must exist.
func TestTheFunctionsOfTheExchangeAreThere(t *testing.T) {
	files, err := filepath.Glob("../../internal/watch/*.go")
	require.NoError(t, err)
	var reads, calls []string
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		for _, d := range file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || f.Recv == nil {
				continue
			}
			star, ok := f.Recv.List[0].Type.(*ast.StarExpr)
			if !ok {
				continue
			}
			of := ""
			switch x := star.X.(type) {
			case *ast.Ident:
				of = x.Name
			case *ast.IndexExpr:
				of = x.X.(*ast.Ident).Name + "[...]"
			}
			name := "parley/internal/watch.(*" + of + ")." + f.Name.Name
			if reading.MatchString(name) {
				reads = append(reads, name)
			}
			if calling.MatchString(name) {
				calls = append(calls, name)
			}
		}
	}
	require.Len(t, reads, 1)
	require.Len(t, calls, 2)
}
