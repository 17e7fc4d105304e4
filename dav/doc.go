// Package dav serves WebDAV over HTTP/1.1: RFC 9110, 9112, 7617, 4918 (classes 1, 2 and 3) and 4331, on the engine.
//
// A connection is parked on the event loop while it is idle. A head is parsed there; what can be said from memory is
// answered there (a challenge, OPTIONS without a login, an error). A request runs in the lane of its user, one at a time
// for each connection, in their order. Its answer leaves in one write if it is small; a handler that reads a body or
// writes more takes the connection from the loop for as long as that lasts.
//
// Where we differ from the RFCs: a path with a ".." or an encoded "/" or NUL is refused (PATH-2); Content-Range in a PUT
// is refused; HTTP/1.0 knows no chunks; there is no TRACE and no CONNECT.
//
// A peer controls the head (head.go: its size, the number and form of its fields, and everything that frames the body),
// the body (body.go: its length and rate), the path (request.go, a vfs.Path before anything uses it) and, where its
// address is that of a trusted proxy, the fields that name the client (proxy.go).
package dav
