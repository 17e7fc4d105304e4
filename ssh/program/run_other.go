//go:build !linux

package program

import (
	"context"

	"github.com/gantryhq/gantry/ssh/command"
)

// run refuses: nothing here confines a program.
func (j *job) run(context.Context, command.Streams) (int, error) { return 1, errNoConfine }
