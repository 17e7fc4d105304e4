//go:build linux

// Package httpfstest is a small REST service of the kind that vfs/httpfs speaks to, for tests.
package httpfstest

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Service is a storage as somebody would write one: a directory of this machine behind the calls of the package's
// documentation, with the errors of the operating system and no care for what clients may do to each other.
type Service struct {
	Root string

	mu    sync.Mutex
	calls map[string]int
	// fault may answer a call in the service's place. n counts those of its operation.
	fault func(w http.ResponseWriter, r *http.Request, op string, n int) bool
}

// Count is how many calls of an operation there were since Fault; "" of all.
func (s *Service) Count(op string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if op != "" {
		return s.calls[op]
	}
	n := 0
	for _, c := range s.calls {
		n += c
	}
	return n
}

// Fault sets what may answer in the service's place, nil for nothing.
func (s *Service) Fault(fault func(w http.ResponseWriter, r *http.Request, op string, n int) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault, s.calls = fault, map[string]int{}
}

func refuse(w http.ResponseWriter, err error) {
	status := http.StatusInternalServerError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		status = http.StatusNotFound
	case errors.Is(err, fs.ErrPermission):
		status = http.StatusForbidden
	case errors.Is(err, fs.ErrExist), errors.Is(err, syscall.ENOTEMPTY):
		status = http.StatusConflict
	}
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(map[string]string{"message": "no", "error": err.Error()})
}

func entry(i fs.FileInfo) map[string]any {
	st := i.Sys().(*syscall.Stat_t)
	sec, ns := st.Atim.Unix()
	return map[string]any{"name": i.Name(), "size": i.Size(), "mode": uint32(i.Mode()), "last_modified": i.ModTime(), "last_accessed": time.Unix(sec, ns)}
}

// Who the service lets in.
const (
	User     = "svc"
	Password = "very secret word"
	Key      = "very secret key"
)

// ServeHTTP implements http.Handler, below /base.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	op, escaped, _ := strings.Cut(strings.TrimPrefix(r.URL.EscapedPath(), "/base/"), "/")
	s.mu.Lock()
	if s.calls == nil {
		s.calls = map[string]int{}
	}
	s.calls[op]++
	n, fault := s.calls[op], s.fault
	s.mu.Unlock()
	if fault != nil && fault(w, r, op, n) {
		return
	}
	if u, p, ok := r.BasicAuth(); !ok || u != User || p != Password || r.Header.Get("X-API-KEY") != Key {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	name, err := decode(escaped)
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	q := r.URL.Query()
	at := filepath.Join(s.Root, name)
	method := map[string]string{
		"create": http.MethodPost, "mkdir": http.MethodPost, "remove": http.MethodDelete, "rename": http.MethodPatch, "chmod": http.MethodPatch, "chtimes": http.MethodPatch,
	}[op]
	if method == "" {
		method = http.MethodGet
	}
	if r.Method != method {
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	switch op {
	case "stat":
		var i fs.FileInfo
		if i, err = os.Stat(at); err == nil {
			json.NewEncoder(w).Encode(entry(i))
		}
	case "readdir":
		var list []fs.DirEntry
		if list, err = os.ReadDir(at); err == nil {
			out := []map[string]any{}
			for _, e := range list {
				if i, err := e.Info(); err == nil {
					out = append(out, entry(i))
				}
			}
			json.NewEncoder(w).Encode(out)
		}
	case "open":
		var f *os.File
		if f, err = os.Open(at); err == nil {
			defer f.Close()
			off, _ := strconv.ParseInt(q.Get("offset"), 10, 64)
			if i, err := f.Stat(); err == nil && i.Size() >= off {
				w.Header().Set("Content-Length", strconv.FormatInt(i.Size()-off, 10))
			}
			f.Seek(off, io.SeekStart)
			io.Copy(w, f)
		}
	case "create":
		var f *os.File
		if f, err = os.Create(at); err == nil {
			_, err = io.Copy(f, r.Body)
			f.Close()
		}
	case "rename":
		err = os.Rename(at, filepath.Join(s.Root, q.Get("target")))
	case "remove":
		err = os.Remove(at)
	case "mkdir":
		err = os.Mkdir(at, 0o777)
	case "chmod":
		mode, _ := strconv.ParseUint(q.Get("mode"), 10, 32)
		err = os.Chmod(at, fs.FileMode(mode))
	case "chtimes":
		a, aerr := time.Parse(time.RFC3339Nano, q.Get("access_time"))
		m, merr := time.Parse(time.RFC3339Nano, q.Get("modification_time"))
		if err = errors.Join(aerr, merr); err == nil {
			err = os.Chtimes(at, a, m)
		}
	case "statvfs":
		var st syscall.Statfs_t
		if err = syscall.Statfs(at, &st); err == nil {
			json.NewEncoder(w).Encode(map[string]any{
				"bsize": st.Bsize, "frsize": st.Bsize, "blocks": st.Blocks, "bfree": st.Bfree, "bavail": st.Bavail, "files": st.Files, "ffree": st.Ffree, "favail": st.Ffree, "namemax": 255,
			})
		}
	default:
		w.WriteHeader(http.StatusNotFound)
		return
	}
	if err != nil {
		refuse(w, err)
	}
}

// decode is the path that one segment means. Bytes that are not UTF-8 are names too.
func decode(s string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			b.WriteByte(s[i])
			continue
		}
		if i+3 > len(s) {
			return "", errors.New("half an escape")
		}
		n, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
		if err != nil {
			return "", err
		}
		b.WriteByte(byte(n))
		i += 2
	}
	return b.String(), nil
}
