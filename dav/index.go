package dav

import (
	"html"
	"slices"
	"strconv"
	"strings"

	"github.com/gantryhq/gantry/vfs"
)

// maxSorted is how many entries of a directory a browser gets in order; what is behind them comes as the storage has it.
const maxSorted = 5000

const (
	indexHead = `<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>`
	indexStyle = `</title><style>body{font:1rem/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem;color:#1a1a1a;background:#fff}` +
		`table{border-collapse:collapse;width:100%}td,th{padding:.25rem .75rem .25rem 0;text-align:left;border-bottom:1px solid #ddd}` +
		`td:nth-child(2),th:nth-child(2){text-align:right;white-space:nowrap}td:nth-child(3){white-space:nowrap}a{color:#0645ad;overflow-wrap:anywhere}` +
		`@media(prefers-color-scheme:dark){body{color:#eee;background:#161616}a{color:#8ab4f8}td,th{border-color:#444}}</style></head><body><h1>`
	indexTable = `</h1><table><thead><tr><th scope="col">Name</th><th scope="col">Size</th><th scope="col">Modified (UTC)</th></tr></thead><tbody>` + "\n"
	indexEnd   = "</tbody></table></body></html>\n"
)

// index shows a directory to a browser. Names are text and nothing else in it (WEB-1).
func (s *Server) index(r *request, w *response) error {
	var list []vfs.FileInfo
	begun := false
	begin := func() {
		begun = true
		w.status(200)
		w.set("Content-Type", "text/html; charset=utf-8")
		w.set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
		w.set("X-Content-Type-Options", "nosniff")
		w.set("Referrer-Policy", "no-referrer")
		w.set("Cache-Control", "no-store")
		w.compressible()
		title := html.EscapeString(strings.ToValidUTF8(r.path.String(), "�"))
		w.Write([]byte(indexHead + title + indexStyle + title + indexTable))
		if !r.path.IsRoot() {
			w.Write([]byte(`<tr><td><a href="`))
			w.Write(appendHref(nil, r.prefix, r.path.Dir(), true))
			w.Write([]byte(`">..</a></td><td></td><td></td></tr>` + "\n"))
		}
	}
	var row []byte
	write := func(i vfs.FileInfo) error {
		p, err := r.path.Child(i.Name)
		if err != nil {
			return nil
		}
		row = append(row[:0], `<tr><td><a href="`...)
		row = appendHref(row, r.prefix, p, i.IsDir())
		row = append(row, `">`...)
		row = append(row, html.EscapeString(strings.ToValidUTF8(i.Name, "�"))...)
		if i.IsDir() {
			row = append(row, `/</a></td><td>`...)
		} else {
			row = append(row, `</a></td><td>`...)
			row = strconv.AppendInt(row, i.Size, 10)
		}
		row = append(row, `</td><td>`...)
		row = i.ModTime.UTC().AppendFormat(row, "2006-01-02 15:04:05")
		row = append(row, "</td></tr>\n"...)
		_, err = w.Write(row)
		return err
	}
	writeAll := func() error {
		slices.SortFunc(list, func(a, b vfs.FileInfo) int {
			if a.IsDir() != b.IsDir() {
				if a.IsDir() {
					return -1
				}
				return 1
			}
			return strings.Compare(a.Name, b.Name)
		})
		begin()
		for _, i := range list {
			if err := write(i); err != nil {
				return err
			}
		}
		return nil
	}
	for i, err := range r.s.List(r.ctx, r.path) {
		switch {
		case err != nil && i.Name == "":
			return err
		case err != nil:
			continue // one bad entry
		case begun:
			if err := write(i); err != nil {
				return err
			}
			continue
		}
		if list = append(list, i); len(list) == maxSorted {
			if err := writeAll(); err != nil {
				return err
			}
			list = nil
		}
	}
	if !begun {
		if err := writeAll(); err != nil {
			return err
		}
	}
	_, err := w.Write([]byte(indexEnd))
	return err
}
