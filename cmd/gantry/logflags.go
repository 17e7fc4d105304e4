package main

import (
	"fmt"
	"os"

	"github.com/gantryhq/gantry/internal/logs"
	"github.com/spf13/pflag"
)

// addLog adds the flags of the log.
func (f *flags) addLog(fs *pflag.FlagSet) {
	d := logs.DefaultConfig()
	fs.StringVarP(&f.log.Path, "log-file-path", "l", d.Path, "log file, relative to the configuration directory; empty for standard output")
	fs.IntVarP(&f.log.MaxSize, "log-max-size", "s", d.MaxSize, "MB after which the log is rotated")
	fs.IntVarP(&f.log.MaxBackups, "log-max-backups", "b", d.MaxBackups, "rotated logs to keep, 0 for all")
	fs.IntVarP(&f.log.MaxAge, "log-max-age", "a", d.MaxAge, "days to keep rotated logs, 0 for ever")
	fs.BoolVarP(&f.log.Compress, "log-compress", "z", d.Compress, "compress rotated logs")
	fs.StringVar(&f.log.Level, "log-level", d.Level, "debug, info, warn or error")
	fs.BoolVar(&f.log.UTC, "log-utc-time", d.UTC, "UTC time stamps, else local time")
	fs.BoolP("log-verbose", "v", true, "") // of old versions: read and warned about
	fs.Lookup("log-verbose").Hidden = true
}

// openLog opens the log that the flags describe.
func (s *settings) openLog(fs *pflag.FlagSet, stdout *os.File) (*logs.Log, error) {
	s.flags.log.Path = absolute(s.dir, s.flags.log.Path)
	log, err := logs.Open(s.flags.log, stdout)
	if err != nil {
		return nil, err
	}
	for _, w := range s.report.Warnings {
		log.Warn(w, "sender", "config")
	}
	if fs.Changed("log-verbose") {
		log.Warn("log-verbose has no effect any more: use log-level", "sender", "config")
	}
	return log, nil
}

// tellWarnings prints the configuration's warnings for a person.
func (a *app) tellWarnings(s *settings) {
	for _, w := range s.report.Warnings {
		fmt.Fprintf(a.stderr, "warning: %s\n", printable(w))
	}
}
