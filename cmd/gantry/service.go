package main

import "github.com/spf13/cobra"

func (a *app) serviceCmd() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "service",
		Short: "Install and control Gantry as a service of Windows or macOS",
		Long:  "service speaks with the system's service manager. On Linux the packages bring a systemd unit, which systemctl controls.",
		Args:  cobra.NoArgs,
	}
	cmd.PersistentFlags().StringVarP(&dir, "config-dir", "c", ".", "configuration directory that the installed service uses")
	for _, v := range [][2]string{
		{"install", "Install the service"}, {"uninstall", "Remove the service; accounts and files stay"}, {"start", "Start the service"},
		{"stop", "Stop the service"}, {"reload", "Let the service read its files again"}, {"rotatelogs", "Let the service rotate its log"},
		{"status", "Say whether the service runs"}, {"run", "Serve for the service manager"},
	} {
		cmd.AddCommand(&cobra.Command{
			Use: v[0], Short: v[1], Args: cobra.NoArgs, Hidden: v[0] == "run",
			RunE: func(*cobra.Command, []string) error { return a.controlService(v[0], dir) },
		})
	}
	return cmd
}
