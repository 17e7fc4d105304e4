// Command gantry is a file-transfer server.
//
// This package holds the command line, the root of the configuration and the wiring of every part by hand:
// start, reload, drain, stop. What the parts do stands in their packages.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

func main() {
	a := &app{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, environ: os.Environ()}
	os.Exit(a.run(os.Args[1:]))
}

// app is one run of the program. Fixed once made.
type app struct {
	stdin          io.Reader
	stdout, stderr *os.File
	environ        []string
}

// run executes the command line and gives the exit code: 0 means that it worked.
func (a *app) run(args []string) int {
	root := &cobra.Command{
		Use:   "gantry",
		Short: "Gantry is a file-transfer server",
		Long: "Gantry serves files over SFTP to accounts of its own, which need not exist on the system.\n" +
			"Start with: gantry serve --config-dir DIR --first-user NAME",
		Version:       buildInfo().String(),
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetVersionTemplate("{{.Version}}\n")
	root.Flags().BoolP("version", "v", false, "print the version")
	root.AddCommand(
		a.serveCmd(),
		a.portableCmd(),
		a.startSubsysCmd(),
		a.checkCmd(),
		a.profileCmd(),
		a.loadCmd(),
		a.dumpCmd(),
		a.convertUsersCmd(),
		a.initProviderCmd(),
		a.revertProviderCmd(),
		a.resetProviderCmd(),
		a.resetPwdCmd(),
		a.rotateKeyCmd(),
		a.pingCmd(),
		a.genCmd(),
		a.serviceCmd(),
		a.versionCmd(),
	)
	root.SetArgs(args)
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	err := root.Execute()
	if err == nil {
		return 0
	}
	if !errors.Is(err, errTold) {
		for _, e := range flatten(err) {
			fmt.Fprintf(a.stderr, "gantry: %s\n", printable(e.Error()))
		}
	}
	return 1
}

// errTold is a failure whose reasons were printed already.
var errTold = errors.New("failed")

// flatten gives the errors of errors.Join one by one.
func flatten(err error) []error {
	if j, ok := err.(interface{ Unwrap() []error }); ok {
		var out []error
		for _, e := range j.Unwrap() {
			out = append(out, flatten(e)...)
		}
		return out
	}
	return []error{err}
}

// isTerminal reports whether a person reads w.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
