package dav

import (
	"slices"
	"strings"
)

// need are the facts of a method that are looked at before it runs.
type need uint8

const (
	// anyone may call it without a login.
	anyone need = 1 << iota
	// writes says that it changes something.
	writes
	// bulk says that a body may be of any length: else it is at most maxBody bytes.
	bulk
	// noBody says that a body is refused with 415.
	noBody
	// long says that it may take any time: it ends with the connection.
	long
)

// maxBody bounds the body of a method without bulk, in bytes (DAV-1).
const maxBody = 1 << 20

// method is a row of the method table.
type method struct {
	run   func(*Server, *request, *response) error
	needs need
	rfc   string
}

// methodTable is the table of all methods. Its rows are never changed.
func methodTable() map[string]method {
	return map[string]method{
		"OPTIONS":   {run: (*Server).options, needs: anyone, rfc: "9110 9.3.7"},
		"GET":       {run: (*Server).get, needs: long, rfc: "9110 9.3.1"},
		"HEAD":      {run: (*Server).get, rfc: "9110 9.3.2"},
		"PUT":       {run: (*Server).put, needs: writes | bulk, rfc: "4918 9.7"},
		"DELETE":    {run: (*Server).delete, needs: writes | long, rfc: "4918 9.6"},
		"PROPFIND":  {run: (*Server).propfind, needs: long, rfc: "4918 9.1"},
		"PROPPATCH": {run: (*Server).proppatch, needs: writes, rfc: "4918 9.2"},
		"MKCOL":     {run: (*Server).mkcol, needs: writes, rfc: "4918 9.3"},
		"COPY":      {run: (*Server).copy, needs: writes | long, rfc: "4918 9.8"},
		"MOVE":      {run: (*Server).move, needs: writes | long, rfc: "4918 9.9"},
		"LOCK":      {run: (*Server).lock, needs: writes, rfc: "4918 9.10"},
		"UNLOCK":    {run: (*Server).unlock, needs: writes, rfc: "4918 9.11"},
	}
}

// allowed is the list of Allow.
func allowed(table map[string]method) string {
	var names []string
	for n := range table {
		names = append(names, n)
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// options says what the server speaks: Windows takes it for a WebDAV one by MS-Author-Via.
func (s *Server) options(_ *request, w *response) error {
	s.advertise(w)
	w.status(200)
	return nil
}

func (s *Server) advertise(w *response) {
	w.set("DAV", "1, 2, 3")
	w.set("MS-Author-Via", "DAV")
	w.set("Allow", s.allow)
	w.set("Accept-Ranges", "bytes")
}
