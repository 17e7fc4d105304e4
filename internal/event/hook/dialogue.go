package hook

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"runtime"
	"time"
)

// maxLine bounds one line of a dialogue, in bytes.
const maxLine = 64 << 10

// Dialogue is a program that writes lines and reads answers. Owned by one goroutine. Close ends it.
type Dialogue struct {
	cmd     *exec.Cmd
	in      io.WriteCloser
	out     *bufio.Scanner
	ctx     context.Context // ends with the program's time
	cancel  context.CancelFunc
	release func()
	target  string
}

// Talk starts a program for a dialogue, within the program's time limit.
func (r *Runner) Talk(ctx context.Context, c Call) (*Dialogue, error) {
	release, err := r.enter(ctx, c.Hook)
	if err != nil {
		return nil, err
	}
	wait, env, args := r.cfg.Command.of(c.Target, c.Hook)
	ctx, cancel := context.WithTimeout(ctx, wait)
	d := &Dialogue{ctx: ctx, cancel: cancel, release: release, target: c.Target}
	cmd, err := r.command(ctx, c, env, args)
	if err == nil {
		d.cmd = cmd
		err = d.start()
	}
	if err != nil {
		cancel()
		release()
		return nil, fmt.Errorf("hook: %s: %w", c.Target, err)
	}
	return d, nil
}

func (d *Dialogue) start() error {
	in, err := d.cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := d.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	d.in, d.out = in, bufio.NewScanner(out)
	d.out.Buffer(make([]byte, 0, 4096), maxLine)
	// A child that outlives the program may hold the pipe: the end of the time closes it.
	context.AfterFunc(d.ctx, func() {
		time.AfterFunc(endWait, func() { out.Close() })
	})
	return d.cmd.Start()
}

// Line is the program's next line that is not blank; io.EOF after the last.
func (d *Dialogue) Line() ([]byte, error) {
	for d.out.Scan() {
		if line := bytes.TrimSpace(d.out.Bytes()); len(line) > 0 {
			return line, nil
		}
	}
	err := d.out.Err()
	switch {
	case d.ctx.Err() != nil:
		err = d.ctx.Err()
	case err == nil:
		return nil, io.EOF
	}
	return nil, fmt.Errorf("hook: %s: %w", d.target, err)
}

// Answer gives the program a line.
func (d *Dialogue) Answer(text string) error {
	if bytes.ContainsAny([]byte(text), "\r\n\x00") {
		return errors.New("hook: an answer holds a line break") // it would be two
	}
	end := "\n"
	if runtime.GOOS == "windows" {
		end = "\r\n"
	}
	_, err := io.WriteString(d.in, text+end)
	return err
}

// Close ends the program, if it runs still, and all that it started.
func (d *Dialogue) Close() {
	d.cancel()
	d.in.Close()
	d.cmd.Wait() // killed, or ended
	d.release()
}
