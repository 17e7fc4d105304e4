package engine

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A process without descriptors tells peers at once, and serves again when there are some (RES-1). The child has 40.
func TestLackOfDescriptors(t *testing.T) {
	if os.Getenv("GANTRY_TEST_FEW_FILES") != "" {
		fewFiles()
	}
	cmd := exec.Command(os.Args[0], "-test.run", "^TestLackOfDescriptors$")
	cmd.Env = append(os.Environ(), "GANTRY_TEST_FEW_FILES=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		in.Close() // ends it
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}()
	addr, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	try := func() (c net.Conn, err error) {
		if c, err = net.Dial("tcp", strings.TrimSpace(addr)); err != nil {
			return nil, err
		}
		c.SetReadDeadline(time.Now().Add(5 * time.Second))
		if _, err = c.Read(make([]byte, 1)); err != nil {
			c.Close()
			return nil, err
		}
		return c, nil
	}
	var open []net.Conn
	refused := 0
	for range 60 {
		c, err := try()
		switch {
		case err == nil:
			open = append(open, c)
		case errors.Is(err, os.ErrDeadlineExceeded):
			t.Fatalf("a peer was left waiting, after %d that were served", len(open))
		default:
			refused++
		}
		if refused > 3 {
			break
		}
	}
	if len(open) < 10 || refused == 0 {
		t.Errorf("%d served, %d refused", len(open), refused)
	}
	for _, c := range open {
		c.Close()
	}
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		c, err := try()
		if err == nil {
			c.Close()
			return
		}
		if time.Now().After(end) {
			t.Fatalf("not served again: %v", err)
		}
	}
}

// fewFiles serves with few descriptors until standard input ends.
func fewFiles() {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	l := newListener(inner, nil, quiet(), time.Second)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 40, Max: 40}); err != nil {
		panic(err)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				c.Write([]byte{1})
				io.Copy(io.Discard, c)
				c.Close()
			}()
		}
	}()
	fmt.Println(l.Addr())
	io.Copy(io.Discard, os.Stdin)
	l.Close()
	os.Exit(0)
}
