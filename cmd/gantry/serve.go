package main

import (
	"errors"

	"github.com/spf13/cobra"
)

func (a *app) serveCmd() *cobra.Command {
	f := &flags{}
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Start the server",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := a.load(f, cmd.Flags())
			if err != nil {
				return err
			}
			if err := s.ensureDir(); err != nil {
				return err
			}
			return errors.New("serve: not built yet")
		},
	}
	f.add(cmd.Flags())
	f.addLog(cmd.Flags())
	return cmd
}
