package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
)

// Set by the linker: -X main.version=… -X main.commit=… -X main.date=…
var (
	version = "0.1.0-dev"
	commit  string
	date    string
)

// build describes this binary.
type build struct {
	Version, Commit, Date string
	Features              []string
}

// buildInfo takes what the linker set, and the rest from what the go command noted.
func buildInfo() build {
	b := build{Version: version, Commit: commit, Date: date, Features: features()}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	dirty := ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision" && commit == "":
			b.Commit = s.Value[:min(len(s.Value), 12)]
		case s.Key == "vcs.time" && date == "":
			b.Date = s.Value
		case s.Key == "vcs.modified" && s.Value == "true" && commit == "":
			dirty = "+changes"
		}
	}
	if b.Commit != "" {
		b.Commit += dirty
	}
	return b
}

// String is the line of --version: "Gantry 0.1.0-abcdef-2026-01-02T03:04:05Z +sftp …".
func (b build) String() string {
	s := "Gantry " + b.Version
	for _, part := range []string{b.Commit, b.Date} {
		if part != "" {
			s += "-" + part
		}
	}
	return s + " " + strings.Join(b.Features, " ")
}

// features names what this binary can do, +word or -word.
func features() []string {
	sqlite := "+sqlite(go)"
	if cgo {
		sqlite = "+sqlite(cgo)"
	}
	built := func(with bool, name string) string {
		if with {
			return "+" + name
		}
		return "-" + name
	}
	return []string{"+sftp", "+ftp", "+webdav", "+rest", "+metrics", built(withS3, "s3"), built(withGCS, "gcs"), built(withAzBlob, "azblob"),
		sqlite, "+pgsql", "+mysql", "+bolt", "+memory"}
}

func (a *app) versionCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version and what this binary can do",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintf(a.stdout, "%s\n%s %s/%s\n", buildInfo(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		},
	}
}
