package session

// Traffic is an open transfer, as it is counted.
type Traffic struct {
	Protocol string // of the connection
	Provider int    // the storage's
	Upload   bool
	Bytes    int64 // moved so far
}

// Stats counts the live sessions by protocol and lists the open transfers.
func (s *Server) Stats() (sessions map[string]int, open []Traffic) {
	sessions = map[string]int{}
	for _, x := range s.live("") {
		sessions[x.conn.Protocol]++
		x.mu.Lock()
		for h := x.handles; h != nil; h = h.next {
			if !h.quiet {
				open = append(open, Traffic{x.conn.Protocol, h.about.Provider, h.wr != nil, h.x.bytes.Load()})
			}
		}
		x.mu.Unlock()
	}
	return sessions, open
}
