package web

import (
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTheDashboardLoadsNothingFromElsewhere(t *testing.T) {
	h := Dashboard()
	ask := func(path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
		return w
	}
	index := ask("/")
	require.Equal(t, http.StatusOK, index.Code)
	require.Contains(t, index.Header().Get("Content-Security-Policy"), "default-src 'none'")
	require.NotContains(t, index.Header().Get("Content-Security-Policy"), "unsafe")
	require.Contains(t, index.Header().Get("Content-Security-Policy"), "connect-src 'self';")
	for _, found := range regexp.MustCompile(`(?:src|href)="([^#"]+)"`).FindAllStringSubmatch(index.Body.String(), -1) {
		require.Equal(t, http.StatusOK, ask("/"+found[1]).Code, found[1])
	}
	require.NotRegexp(t, `style="|onclick="|<style|<script>`, index.Body.String())
	require.Equal(t, http.StatusNotFound, ask("/dashboard.go").Code)

	size := 0
	for path, f := range h.(*page).files {
		size += len(f.plain)
		text := strings.ReplaceAll(string(f.plain), "http://www.w3.org/2000/svg", "")
		require.NotContains(t, text, "http", path)
	}
	require.Less(t, size, 80<<10)
}
