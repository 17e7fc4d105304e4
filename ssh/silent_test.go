package ssh

import (
	"bufio"
	"net"
	"strings"
	"testing"
)

// gantry ping and load balancers read the greeting and leave: that is no failed login.
func TestWhoSaysNothingHasFailedNothing(t *testing.T) {
	s := startServer(t, nil)
	nc, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(nc).ReadString('\n'); err != nil || !strings.HasPrefix(line, "SSH-2.0-") {
		t.Fatalf("%q, %v", line, err)
	}
	nc.Close()
	eventually(t, "the end is logged for debugging", func() bool { return strings.Contains(s.log.String(), "before it said anything") })
	// Who says something and leaves is told of, after it.
	if nc, err = net.Dial("tcp", s.addr); err != nil {
		t.Fatal(err)
	}
	nc.Write([]byte("SSH-2.0-x\r\n"))
	nc.Close()
	<-s.b.left
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	if len(s.b.gone) != 1 {
		t.Errorf("%d connections are told of, want 1", len(s.b.gone))
	}
}
