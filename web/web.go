// Package web holds what people see in a browser: plain modules and style sheets, sent as they are in the repository. Chat serves the
// chat page with the JavaScript client that it is built on, Dashboard the page of operators.
//
// It answers no question of a page. For the chat page accounts are the gate's, and everything else is a chat node's.
package web

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"encoding/json"
	"io/fs"
	"net/http"
	"path"
	"strconv"
	"strings"

	"parley/clients/js"
	"parley/web/shared"
)

//go:embed chat/*.html chat/*.js chat/*.css chat/*.svg
var files embed.FS

// policy is the Content-Security-Policy of the chat page: code, looks and pictures from here alone, nothing inline, no frames.
// Chat nodes are other origins, whose addresses only the gate knows.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self' ws: wss:; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// types are the content types of the files, by their extension.
var types = map[string]string{
	".html": "text/html; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".svg":  "image/svg+xml",
	".json": "application/json",
}

// DemoUser is a user to try the page with. The page offers it, so its password is public.
type DemoUser struct {
	Name     string `json:"name"`
	Email    string `json:"email"`
	Password string `json:"password"`
}

// Options adjust the chat page.
type Options struct {
	// Demo are users whom everybody may log in as. None unless the server is a demonstration.
	Demo []DemoUser
}

// file is an answer, prepared once.
type file struct {
	plain, packed []byte // packed is gzip's; empty if that is no shorter
	kind, etag    string
}

// page serves prepared files by their path.
type page struct {
	policy string
	files  map[string]*file
}

// Chat serves the chat page at / and what it loads beside it. It answers 404 to every other path, and 405 to methods other than GET
// and HEAD.
func Chat(o Options) http.Handler {
	p := newPage(policy, files, "chat")
	p.add(js.Files, ".", "/client/")
	about, err := json.Marshal(struct {
		Demo []DemoUser `json:"demo"`
	}{append([]DemoUser{}, o.Demo...)})
	if err != nil {
		panic("web: " + err.Error()) // strings always encode
	}
	p.files["/page.json"] = prepare("page.json", about)
	return p
}

// newPage prepares a directory of files, with what the pages share.
func newPage(policy string, from fs.FS, dir string) *page {
	p := &page{policy: policy, files: make(map[string]*file)}
	p.add(from, dir, "/")
	p.add(shared.Files, ".", "/shared/")
	p.files["/"] = p.files["/index.html"]
	return p
}

// add prepares the files of a directory, to be served below a path.
func (p *page) add(from fs.FS, dir, below string) {
	entries, err := fs.ReadDir(from, dir)
	if err != nil {
		panic("web: " + err.Error()) // the directory is embedded
	}
	for _, e := range entries {
		content, err := fs.ReadFile(from, path.Join(dir, e.Name()))
		if err != nil {
			panic("web: " + err.Error())
		}
		p.files[below+e.Name()] = prepare(e.Name(), content)
	}
}

func prepare(name string, content []byte) *file {
	sum := sha256.Sum256(content)
	f := &file{plain: content, kind: types[path.Ext(name)], etag: `W/"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`}
	var packed bytes.Buffer
	w, _ := gzip.NewWriterLevel(&packed, gzip.BestCompression) // the level is valid
	_, _ = w.Write(content)                                    // a buffer takes everything
	_ = w.Close()
	if packed.Len() < len(content) {
		f.packed = packed.Bytes()
	}
	return f
}

// ServeHTTP implements http.Handler.
func (p *page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", p.policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	// No Cross-Origin-Opener-Policy: it has the browser start another process for the page, which may take longer than all the rest
	// up to the first paint. A page that opened this one can read nothing of it, policy or not.
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	f := p.files[r.URL.Path]
	switch {
	case f == nil:
		http.Error(w, "not found", http.StatusNotFound)
		return
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		h.Set("Allow", "GET, HEAD")
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		return
	}
	h.Set("Content-Type", f.kind)
	h.Set("ETag", f.etag)
	h.Set("Cache-Control", "no-cache") // kept, and asked for again: a new server comes with a new page
	h.Set("Vary", "Accept-Encoding")
	if strings.Contains(r.Header.Get("If-None-Match"), f.etag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	body := f.plain
	if len(f.packed) > 0 && strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		h.Set("Content-Encoding", "gzip")
		body = f.packed
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if r.Method == http.MethodGet {
		_, _ = w.Write(body) // the client left
	}
}
