package main

import (
	"errors"

	"github.com/spf13/cobra"
)

func stub(use, short string) *cobra.Command {
	return &cobra.Command{Use: use, Short: short, RunE: func(*cobra.Command, []string) error { return errors.New(use + ": not built yet") }}
}

func (a *app) loadCmd() *cobra.Command { return stub("load", "Load a dump") }
func (a *app) dumpCmd() *cobra.Command { return stub("dump", "Write a dump") }
func (a *app) initProviderCmd() *cobra.Command {
	return stub("initprovider", "Create or upgrade the database")
}
