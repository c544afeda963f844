package dash

import (
	"io/fs"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestThePageLoadsNothingFromElsewhere(t *testing.T) {
	h := Handler()
	ask := func(path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
		return w
	}
	page := ask("/")
	require.Equal(t, http.StatusOK, page.Code)
	require.Contains(t, page.Header().Get("Content-Security-Policy"), "default-src 'none'")
	require.NotContains(t, page.Header().Get("Content-Security-Policy"), "unsafe")
	for _, found := range regexp.MustCompile(`(?:src|href)="([^#"]+)"`).FindAllStringSubmatch(page.Body.String(), -1) {
		require.Equal(t, http.StatusOK, ask("/"+found[1]).Code, found[1])
	}
	require.NotRegexp(t, `style="|onclick="|<style|<script>`, page.Body.String())
	require.Equal(t, http.StatusNotFound, ask("/dash.go").Code)

	size := 0
	require.NoError(t, fs.WalkDir(files, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := files.ReadFile(path)
		size += len(data)
		text := strings.ReplaceAll(string(data), "http://www.w3.org/2000/svg", "")
		require.NotContains(t, text, "http", path)
		require.NotContains(t, text, "innerHTML", path)
		return err
	}))
	require.Less(t, size, 60<<10)
}
