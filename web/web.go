// Package web holds the hub's page, built from ui with Vite and embedded here, and
// serves it as static files. Where it was not built, as by a plain go build, it
// serves a page that says how to get it.
package web

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strings"
	"sync"
	"time"
)

//go:embed all:dist
var dist embed.FS

// Policy is the page's Content-Security-Policy: nothing but its own scripts and
// styles, no script made of text, no other host.
const Policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' blob: data:; media-src blob:; " +
	"base-uri 'none'; form-action 'self'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// A file is served as it is or gzipped.
type file struct {
	body, zipped []byte // zipped is nil where that does not pay
	kind, tag    string
	forever      bool // its name has a hash of its content
}

// Built reports whether the page was built into this binary.
func Built() bool { return site().files["index.html"] != nil }

// A pages is all files by name, and what answers for the page itself.
type pages struct {
	files map[string]*file
	index *file
}

var site = sync.OnceValue(func() *pages {
	p := &pages{files: map[string]*file{}}
	_ = fs.WalkDir(dist, "dist/ui", func(name string, d fs.DirEntry, err error) error { // none there: the fallback
		if err == nil && !d.IsDir() {
			p.files[strings.TrimPrefix(name, "dist/ui/")] = load(name)
		}
		return nil
	})
	if p.index = p.files["index.html"]; p.index == nil {
		p.index = load("dist/fallback.html")
	}
	return p
})

func load(name string) *file {
	body, _ := dist.ReadFile(name) // it was found there
	sum := sha256.Sum256(body)
	f := &file{body: body, tag: hex.EncodeToString(sum[:12]), kind: mime.TypeByExtension(path.Ext(name)), forever: strings.Contains(name, "/assets/")}
	switch path.Ext(name) { // the machine's tables may say something else
	case ".js":
		f.kind = "text/javascript; charset=utf-8"
	case ".svg":
		f.kind = "image/svg+xml"
	}
	var zipped bytes.Buffer
	w, _ := gzip.NewWriterLevel(&zipped, gzip.BestCompression)
	_, _ = w.Write(body)
	_ = w.Close()
	if zipped.Len() < len(body) {
		f.zipped = zipped.Bytes()
	}
	return f
}

// Serve answers GET and HEAD for a file of the page, by its name below the page's
// URL; every name that is no file is the page's, which knows its screens.
func Serve(w http.ResponseWriter, r *http.Request, name string) {
	s := site()
	f := s.files[name]
	if f == nil && strings.HasPrefix(name, "assets/") {
		http.Error(w, "This file is of another version of the page. Reload the page.", http.StatusNotFound)
		return
	}
	if f == nil {
		f = s.index
	}
	h := w.Header()
	h.Set("Content-Type", f.kind)
	h.Set("Content-Security-Policy", Policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Add("Vary", "Accept-Encoding")
	h.Set("Cache-Control", "no-cache")
	if f.forever {
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	body, tag := f.body, f.tag
	if f.zipped != nil && strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		h.Set("Content-Encoding", "gzip")
		body, tag = f.zipped, f.tag+"-gz"
	}
	h.Set("ETag", `"`+tag+`"`)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
}
