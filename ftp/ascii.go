package ftp

// toNetwork appends p with LF as CR LF (RFC 959 3.1.1.1). A CR that is there stays, and its LF gets no second one.
// last is the byte before p; the new last byte is returned.
func toNetwork(b, p []byte, last byte) ([]byte, byte) {
	for _, c := range p {
		if c == '\n' && last != '\r' {
			b = append(b, '\r')
		}
		b = append(b, c)
		last = c
	}
	return b, last
}

// fromNetwork turns CR LF into LF. held: a CR was the last byte of what came before and waits for the next one.
type fromNetwork struct{ held bool }

// convert appends p to b with CR LF as LF.
func (f *fromNetwork) convert(b, p []byte) []byte {
	for _, c := range p {
		if f.held && c != '\n' {
			b = append(b, '\r')
		}
		f.held = c == '\r'
		if !f.held {
			b = append(b, c)
		}
	}
	return b
}

// end appends a CR that was the very last byte.
func (f *fromNetwork) end(b []byte) []byte {
	if f.held {
		f.held = false
		b = append(b, '\r')
	}
	return b
}
