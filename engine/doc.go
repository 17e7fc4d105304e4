// Package engine is the network layer below the protocols.
//
// A Listener survives a lack of descriptors and reads the PROXY headers of trusted peers; protocols with a goroutine
// for each connection take theirs from it. An Engine serves the others: a Conn is parked on an event loop while it is
// idle and for small work, without a goroutine of its own, and lifted to a goroutine with a blocking net.Conn for what
// is bulk. A Stream moves bulk bytes: by sendfile where a plain socket and a file meet, else through large pooled
// buffers, with TLS records gathered into few writes.
//
// A protocol is a Handler, one for each connection. The engine calls it for one connection never twice at once, and
// the callbacks must not block: they parse, answer from memory with Conn.Write, and return a Verdict. Work runs
// something that may block on a goroutine of a Lane; its output is written when it is over, and only then does the
// handler get more input. Lift gives a goroutine the connection itself. StartTLS makes it a TLS one; the handler goes
// on to see plain text. Post brings what happens elsewhere (the end of a transfer, a kill) into the handler's turn.
//
// A peer controls what it sends, how fast, and when it stops reading. Input that the handler does not take is bounded
// (maxInput): past it the connection is not read from. Output that the peer does not take is bounded (maxOutput): the
// connection leaves the loop, is drained with a deadline, and is cut past the bound. Handshakes have a deadline and a
// bound. A panic of a callback ends its connection.
//
// Locks: Conn.mu, then Conn.pmu, Lane.mu, wheel.mu or Server.mu. Callbacks run under Conn.mu: a handler must not wait
// for anything that may wait for its own connection.
package engine
