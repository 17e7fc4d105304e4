//go:build windows || darwin

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	"github.com/kardianos/service"
)

// controlService does what verb says through the system's service manager.
func (a *app) controlService(verb, dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("service %s: %w", verb, err)
	}
	p := &program{app: a, dir: dir, sig: make(chan os.Signal, 1), done: make(chan struct{})}
	svc, err := service.New(p, &service.Config{
		Name: "gantry", DisplayName: "Gantry", Description: "File-transfer server", Arguments: []string{"service", "run", "-c", dir},
	})
	if err != nil {
		return fmt.Errorf("service %s: %w", verb, err)
	}
	switch verb {
	case "run":
		err = errors.Join(svc.Run(), p.err)
	case "status":
		var st service.Status
		if st, err = svc.Status(); err == nil {
			fmt.Fprintln(a.stdout, map[service.Status]string{service.StatusRunning: "running", service.StatusStopped: "stopped"}[st])
		}
	case "reload", "rotatelogs":
		if runtime.GOOS == "windows" {
			return fmt.Errorf("service %s: not on Windows yet; stop and start the service", verb)
		}
		signal := map[string]string{"reload": "HUP", "rotatelogs": "USR1"}[verb]
		err = exec.Command("/bin/launchctl", "kill", signal, "system/gantry").Run()
	default:
		err = service.Control(svc, verb)
	}
	if err != nil {
		return fmt.Errorf("service %s: %w", verb, err)
	}
	return nil
}

// program is serve under a service manager.
type program struct {
	app  *app
	dir  string
	sig  chan os.Signal
	done chan struct{} // closed when serve has returned
	err  error         // of serve; valid when done is closed
}

// Start serves in the background until Stop.
func (p *program) Start(service.Service) error {
	system, unhook := signals()
	go func() { // ends with done
		for {
			select {
			case x := <-system:
				select {
				case p.sig <- x:
				default:
				}
			case <-p.done:
				unhook()
				return
			}
		}
	}()
	go func() { // Stop waits for it
		f := &serveFlags{}
		cmd := p.app.serveCmd()
		cmd.ResetFlags()
		f.add(cmd.Flags())
		f.addLog(cmd.Flags())
		f.addLoad(cmd.Flags())
		if p.err = cmd.Flags().Parse([]string{"-c", p.dir}); p.err == nil {
			p.err = p.app.serve(context.Background(), f, cmd.Flags(), p.sig, nil)
		}
		close(p.done)
		if p.err != nil {
			fmt.Fprintln(p.app.stderr, "gantry:", printable(p.err.Error()))
			os.Exit(1) // the manager restarts what has failed
		}
	}()
	return nil
}

// Stop ends the server in order.
func (p *program) Stop(service.Service) error {
	select {
	case p.sig <- os.Interrupt:
	default:
	}
	<-p.done
	return nil
}
