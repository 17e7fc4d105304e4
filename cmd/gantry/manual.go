package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// writeManual writes a page for cmd and for each of its verbs into dir. Cobra's own writer would have a Markdown parser
// for it in every server.
func writeManual(cmd *cobra.Command, dir string) error {
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			if err := writeManual(c, dir); err != nil {
				return err
			}
		}
	}
	return os.WriteFile(filepath.Join(dir, pageOf(cmd)+".1"), manualPage(cmd), 0o644)
}

// pageOf names a verb's page: gantry-gen-man.
func pageOf(cmd *cobra.Command) string { return strings.ReplaceAll(cmd.CommandPath(), " ", "-") }

// manualPage is a page in man(7)'s macros. It has no date: the same source gives the same page.
func manualPage(cmd *cobra.Command) []byte {
	cmd.InitDefaultHelpCmd()
	cmd.InitDefaultHelpFlag()
	var b bytes.Buffer
	name := pageOf(cmd)
	fmt.Fprintf(&b, ".TH %s 1 \"\" %s Gantry\n", roff(strings.ToUpper(name)), quoted("Gantry "+version))
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n", roff(name), roff(cmd.Short))
	fmt.Fprintf(&b, ".SH SYNOPSIS\n.B %s\n", roff(cmd.UseLine()))
	long := cmd.Long
	if long == "" {
		long = cmd.Short
	}
	b.WriteString(".SH DESCRIPTION\n")
	for line := range strings.Lines(long) {
		switch text := strings.TrimRight(line, "\n"); {
		case text == "":
			b.WriteString(".PP\n")
		case text[0] == ' ': // an example
			fmt.Fprintf(&b, ".PP\n.RS\n.nf\n%s\n.fi\n.RE\n.PP\n", roff(strings.TrimSpace(text)))
		default:
			b.WriteString(roff(text) + "\n")
		}
	}
	section := func(title string, flags *pflag.FlagSet) {
		if !flags.HasAvailableFlags() {
			return
		}
		fmt.Fprintf(&b, ".SH %s\n", title)
		flags.VisitAll(func(f *pflag.Flag) {
			if f.Hidden {
				return
			}
			b.WriteString(".TP\n")
			if f.Shorthand != "" {
				fmt.Fprintf(&b, "\\fB%s\\fR, ", roff("-"+f.Shorthand))
			}
			value, usage := pflag.UnquoteUsage(f)
			fmt.Fprintf(&b, "\\fB%s\\fR", roff("--"+f.Name))
			if value != "" {
				fmt.Fprintf(&b, " \\fI%s\\fR", roff(value))
			}
			b.WriteString("\n" + roff(usage))
			if d := f.DefValue; d != "" && d != "false" && d != "0" && d != "0s" && d != "[]" {
				fmt.Fprintf(&b, " (default %s)", roff(d))
			}
			b.WriteByte('\n')
		})
	}
	section("OPTIONS", cmd.NonInheritedFlags())
	section("OPTIONS OF ALL VERBS", cmd.InheritedFlags())
	var see []string
	if p := cmd.Parent(); p != nil {
		see = append(see, pageOf(p))
	}
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() && c.Name() != "help" {
			see = append(see, pageOf(c))
		}
	}
	if len(see) > 0 {
		b.WriteString(".SH SEE ALSO\n")
		for i, s := range see {
			fmt.Fprintf(&b, ".BR %s (1)%s\n", roff(s), strings.Repeat(",", min(1, len(see)-1-i)))
		}
	}
	return b.Bytes()
}

// roff makes text of what roff would take for its own.
func roff(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(s)
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, ".") || strings.HasPrefix(l, "'") {
			lines[i] = `\&` + l
		}
	}
	return strings.Join(lines, "\n")
}

func quoted(s string) string { return `"` + strings.ReplaceAll(roff(s), `"`, `\(dq`) + `"` }
