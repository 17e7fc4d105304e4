package vfs

import "strings"

// windowsTakes reports whether name means itself on Windows: no separator, no stream ("a:b") or other
// reserved character, no device name, no dot or space at the end, which Windows drops (PATH-2).
func windowsTakes(name string) bool {
	if strings.ContainsAny(name, `\:*?"<>|`) {
		return false
	}
	for i := range len(name) {
		if name[i] < ' ' {
			return false
		}
	}
	if last := name[len(name)-1]; last == '.' || last == ' ' {
		return false
	}
	stem, _, _ := strings.Cut(name, ".")
	switch strings.ToUpper(strings.TrimRight(stem, " ")) {
	case "CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$",
		"COM0", "COM1", "COM2", "COM3", "COM4", "COM5", "COM6", "COM7", "COM8", "COM9", "COM¹", "COM²", "COM³",
		"LPT0", "LPT1", "LPT2", "LPT3", "LPT4", "LPT5", "LPT6", "LPT7", "LPT8", "LPT9", "LPT¹", "LPT²", "LPT³":
		return false
	}
	// An 8.3 alias names another file than it says.
	if tilde := strings.LastIndexByte(stem, '~'); tilde > 0 && tilde < len(stem)-1 && len(stem) <= 8 {
		return strings.Trim(stem[tilde+1:], "0123456789") != ""
	}
	return true
}
