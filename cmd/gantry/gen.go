package main

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gantryhq/gantry/internal/config"
)

func (a *app) genCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "gen",
		Short: "Write shell completions, manual pages or a configuration file",
		Args:  cobra.NoArgs,
	}
	cmd.AddCommand(a.genCompletionCmd(), a.genManCmd(), a.genConfigCmd())
	return cmd
}

func (a *app) genCompletionCmd() *cobra.Command {
	shells := []string{"bash", "zsh", "fish", "powershell"}
	return &cobra.Command{
		Use:   "completion " + strings.Join(shells, "|"),
		Short: "Write the completion script of a shell to standard output",
		Long: "completion writes a script that completes gantry's verbs and flags. For bash:\n" +
			"  gantry gen completion bash > /etc/bash_completion.d/gantry",
		Args:      cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		ValidArgs: shells,
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(a.stdout, true)
			case "zsh":
				return root.GenZshCompletion(a.stdout)
			case "fish":
				return root.GenFishCompletion(a.stdout, true)
			}
			return root.GenPowerShellCompletionWithDesc(a.stdout)
		},
	}
}

func (a *app) genManCmd() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "man",
		Short: "Write the manual pages",
		Long:  "man writes one manual page for each verb. They become readable with: man -l man/gantry-serve.1",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return fmt.Errorf("gen man: %w", err)
			}
			if err := writeManual(cmd.Root(), dir); err != nil {
				return fmt.Errorf("gen man: %w", err)
			}
			return nil
		},
	}
	cmd.Flags().StringVarP(&dir, "dir", "d", "man", "directory of the pages, made if missing")
	return cmd
}

func (a *app) genConfigCmd() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Write a configuration file with every key at its default",
		Long: "config writes to standard output. Keep the keys that you change and remove the others: a key that is not in the\n" +
			"file has its default, also when a later version has a better one.",
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if !slices.Contains(config.DocumentFormats(), format) {
				return fmt.Errorf("--format must be one of %s, it is %q", strings.Join(config.DocumentFormats(), ", "), format)
			}
			return config.Write(a.stdout, defaultConfig(), format)
		},
	}
	cmd.Flags().StringVarP(&format, "format", "f", "json", strings.Join(config.DocumentFormats(), ", "))
	return cmd
}
