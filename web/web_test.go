package web

import (
	"compress/gzip"
	"encoding/json"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func get(t *testing.T, h http.Handler, method, target string, header ...string) *http.Response {
	t.Helper()
	r := httptest.NewRequest(method, target, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func body(t *testing.T, res *http.Response) string {
	t.Helper()
	text, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return string(text)
}

func TestThePageIsServedUnderAStrictPolicy(t *testing.T) {
	h := Chat(Options{})
	for target, kind := range map[string]string{
		"/": "text/html", "/index.html": "text/html", "/app.js": "text/javascript", "/chat.css": "text/css",
		"/client/parley.js": "text/javascript", "/icon.svg": "image/svg+xml", "/page.json": "application/json", "/nothing": "text/plain",
	} {
		res := get(t, h, http.MethodGet, target)
		require.True(t, strings.HasPrefix(res.Header.Get("Content-Type"), kind), "%s: %s", target, res.Header.Get("Content-Type"))
		require.Contains(t, res.Header.Get("Content-Security-Policy"), "default-src 'none'; script-src 'self'; style-src 'self'")
		require.Contains(t, res.Header.Get("Content-Security-Policy"), "frame-ancestors 'none'")
		require.NotContains(t, res.Header.Get("Content-Security-Policy"), "unsafe")
		require.Equal(t, "nosniff", res.Header.Get("X-Content-Type-Options"))
		require.Equal(t, "no-referrer", res.Header.Get("Referrer-Policy"))
	}
	require.Equal(t, http.StatusNotFound, get(t, h, http.MethodGet, "/../web.go").StatusCode)
	require.Equal(t, http.StatusMethodNotAllowed, get(t, h, http.MethodPost, "/app.js").StatusCode)
	require.Empty(t, body(t, get(t, h, http.MethodHead, "/app.js")))
}

func TestABrowserThatHasAFileIsNotSentItAgain(t *testing.T) {
	h := Chat(Options{})
	first := get(t, h, http.MethodGet, "/app.js")
	again := get(t, h, http.MethodGet, "/app.js", "If-None-Match", first.Header.Get("ETag"))
	require.Equal(t, http.StatusNotModified, again.StatusCode)
	require.Empty(t, body(t, again))
	require.NotEqual(t, first.Header.Get("ETag"), get(t, h, http.MethodGet, "/chat.css").Header.Get("ETag"))

	packed := get(t, h, http.MethodGet, "/app.js", "Accept-Encoding", "gzip, br")
	require.Equal(t, "gzip", packed.Header.Get("Content-Encoding"))
	unpack, err := gzip.NewReader(packed.Body)
	require.NoError(t, err)
	text, err := io.ReadAll(unpack)
	require.NoError(t, err)
	require.Equal(t, body(t, first), string(text))
}

func TestOnlyADemonstrationOffersItsUsers(t *testing.T) {
	require.JSONEq(t, `{"demo":[]}`, body(t, get(t, Chat(Options{}), http.MethodGet, "/page.json")))
	res := get(t, Chat(Options{Demo: []DemoUser{{"a", "a@example.com", "secret"}}}), http.MethodGet, "/page.json")
	var about struct{ Demo []DemoUser }
	require.NoError(t, json.Unmarshal([]byte(body(t, res)), &about))
	require.Equal(t, []DemoUser{{"a", "a@example.com", "secret"}}, about.Demo)
}

// maxTransfer is what a browser loads the first time, in bytes on the wire without HTTP's own.
const maxTransfer = 150 << 10

func TestThePageIsSmall(t *testing.T) {
	sent, plain := 0, 0
	p := Chat(Options{}).(*page)
	for name, f := range p.files {
		if name != "/index.html" { // which is /
			sent, plain = sent+len(f.packed), plain+len(f.plain)
		}
	}
	t.Logf("%d files, %d KiB, %d KiB on the wire", len(p.files)-1, plain>>10, sent>>10)
	require.LessOrEqual(t, sent, maxTransfer)
}

// What is first seen waits for the page itself and its style sheets only. Forty modules that load meanwhile would take the processor
// from it, and a Cross-Origin-Opener-Policy would have the browser start another process.
func TestTheFirstPaintWaitsForNoModule(t *testing.T) {
	h := Chat(Options{})
	require.Empty(t, get(t, h, http.MethodGet, "/").Header.Get("Cross-Origin-Opener-Policy"))
	html := body(t, get(t, h, http.MethodGet, "/"))
	template := regexp.MustCompile(`(?s)<template.*?</template>`)
	require.Len(t, template.FindAllString(html, -1), 2)
	var loaded []string
	for _, m := range regexp.MustCompile(`(?:src|href)="([^#"]+)"`).FindAllStringSubmatch(template.ReplaceAllString(html, ""), -1) {
		loaded = append(loaded, m[1])
	}
	require.Equal(t, []string{"icon.svg", "base.css", "chat.css", "forms.css", "first.js"}, loaded)
	require.Contains(t, html, `<div class="splash">`)
	require.NotContains(t, body(t, get(t, h, http.MethodGet, "/first.js")), "from '", "it would wait for another file")
}

// The browser learns of a module only from one that imports it. The page names all of them, so that they load at once.
func TestThePagePreloadsEachModule(t *testing.T) {
	p := Chat(Options{}).(*page)
	html := string(p.files["/"].plain)
	var want, got []string
	for name := range p.files {
		if path.Ext(name) == ".js" && name != "/first.js" {
			want = append(want, strings.TrimPrefix(name, "/"))
		}
	}
	for _, m := range regexp.MustCompile(`<link rel="modulepreload" href="([^"]+)">`).FindAllStringSubmatch(html, -1) {
		got = append(got, m[1])
	}
	door := importedBy(p, "/app.js", make(map[string]bool))
	require.Less(t, len(door), len(got)/2)
	first, _, _ := strings.Cut(html, `<template id="more">`)
	for _, name := range got {
		require.Equal(t, strings.Contains(first, `"`+name+`"`), door["/"+name], "%s: what the door needs comes first, and nothing else", name)
	}
	slices.Sort(want)
	slices.Sort(got)
	require.Equal(t, want, got)
	for _, inline := range []string{` style="`, "<style", "<script>", " onclick"} {
		require.NotContains(t, html, inline, "the policy forbids it")
	}
}

// importedBy adds a module, and what it imports at once, to the names found.
func importedBy(p *page, name string, found map[string]bool) map[string]bool {
	if found[name] {
		return found
	}
	found[name] = true
	for _, m := range regexp.MustCompile(`(?m)(?:^import|^export|from) .*'(\.[^']+)';$`).FindAllStringSubmatch(string(p.files[name].plain), -1) {
		importedBy(p, path.Join(path.Dir(name), m[1]), found)
	}
	return found
}

// Both languages of a page have the same texts, and each text that the page asks for exists.
func TestTheLanguagesAreComplete(t *testing.T) {
	t.Run("chat", func(t *testing.T) { completeLanguages(t, files, "chat") })
	t.Run("dashboard", func(t *testing.T) { completeLanguages(t, dashboard, "dashboard") })
}

func completeLanguages(t *testing.T, files fs.FS, dir string) {
	keys := func(name string) map[string]string {
		text, err := fs.ReadFile(files, dir+"/"+name)
		require.NoError(t, err)
		out := make(map[string]string)
		for _, m := range regexp.MustCompile(`(\w+): '((?:[^'\\]|\\.)*)'`).FindAllStringSubmatch(string(text), -1) {
			require.NotContains(t, out, m[1], "%s has it twice", name)
			out[m[1]] = m[2]
		}
		return out
	}
	en, zh := keys("en.js"), keys("zh.js")
	require.NotEmpty(t, en)
	holes := func(text string) []string {
		var out []string
		for _, m := range regexp.MustCompile(`\{(\w+)`).FindAllStringSubmatch(text, -1) {
			out = append(out, m[1])
		}
		slices.Sort(out)
		return slices.Compact(out)
	}
	for key, text := range en {
		require.Contains(t, zh, key)
		require.Equal(t, holes(text), holes(zh[key]), key)
	}
	require.Len(t, zh, len(en))

	asked := make(map[string]bool)
	names, err := fs.Glob(files, dir+"/*")
	require.NoError(t, err)
	all := ""
	for _, name := range names {
		text, err := fs.ReadFile(files, name)
		require.NoError(t, err)
		all += string(text)
	}
	for _, m := range regexp.MustCompile(`\bt\('(\w+)'|data-t(?:-label)?="(\w+)"`).FindAllStringSubmatch(all, -1) {
		require.Contains(t, en, m[1]+m[2])
		asked[m[1]+m[2]] = true
	}
	for key := range en {
		if !asked[key] && !regexp.MustCompile(`^(ev?_|closed_|e[A-Z]|said_|why_|open$|draining$|drained$|silent$|dead$)`).MatchString(key) {
			require.Regexp(t, `'`+key+`'`, strings.ReplaceAll(all, key+": '", ""), "nothing asks for %s", key)
		}
	}
}

// Nothing that a person typed is ever read as HTML or as code, and nothing is loaded from elsewhere.
func TestThePageMakesNoMarkupOfText(t *testing.T) {
	all := Dashboard().(*page).files
	for name, f := range Chat(Options{}).(*page).files {
		all["/chat"+name] = f
	}
	for name, f := range all {
		if path.Ext(name) != ".js" {
			continue
		}
		for _, bad := range []string{"innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "javascript:"} {
			require.NotContains(t, string(f.plain), bad, name)
		}
	}
}
