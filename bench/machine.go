package bench

import (
	"os"
	"runtime"
	"strings"
)

func numCPU() int       { return runtime.NumCPU() }
func goVersion() string { return runtime.Version() }

func readWhole(file string) string {
	b, _ := os.ReadFile(file)
	return strings.TrimSpace(string(b))
}

// readLine gives what follows "name : " in a file of such lines.
func readLine(file, name string) string {
	for line := range strings.Lines(readWhole(file)) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == name {
			return strings.TrimSpace(v)
		}
	}
	return ""
}
