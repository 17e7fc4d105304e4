//go:build !windows && !darwin

package main

import "fmt"

// controlService points at the system's own tool.
func (a *app) controlService(verb, _ string) error {
	return fmt.Errorf("service %s: not for this system; on Linux use systemctl with gantry.service, where rotatelogs is: systemctl kill -s USR1 gantry", verb)
}
