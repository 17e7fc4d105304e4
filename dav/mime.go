package dav

import (
	"mime"
	"path"
	"strings"

	"github.com/gantryhq/gantry/vfs"
)

// contentTypes finds content types by the extension of names. Nothing is read to find one.
type contentTypes map[string]string

// commonTypes are those of usual files, so that they do not depend on the system's tables. Read-only.
var commonTypes = map[string]string{
	".7z": "application/x-7z-compressed", ".aac": "audio/aac", ".avi": "video/x-msvideo", ".bmp": "image/bmp", ".bz2": "application/x-bzip2",
	".csv": "text/csv; charset=utf-8", ".css": "text/css; charset=utf-8", ".doc": "application/msword",
	".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document", ".epub": "application/epub+zip", ".flac": "audio/flac",
	".gif": "image/gif", ".gz": "application/gzip", ".heic": "image/heic", ".htm": "text/html; charset=utf-8", ".html": "text/html; charset=utf-8",
	".ics": "text/calendar; charset=utf-8", ".iso": "application/x-iso9660-image", ".jpeg": "image/jpeg", ".jpg": "image/jpeg",
	".js": "text/javascript; charset=utf-8", ".json": "application/json", ".log": "text/plain; charset=utf-8", ".m4a": "audio/mp4", ".m4v": "video/mp4",
	".md": "text/markdown; charset=utf-8", ".mkv": "video/x-matroska", ".mov": "video/quicktime", ".mp3": "audio/mpeg", ".mp4": "video/mp4",
	".odp": "application/vnd.oasis.opendocument.presentation", ".ods": "application/vnd.oasis.opendocument.spreadsheet",
	".odt": "application/vnd.oasis.opendocument.text", ".ogg": "audio/ogg", ".pdf": "application/pdf", ".png": "image/png",
	".ppt": "application/vnd.ms-powerpoint", ".pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
	".rtf": "application/rtf", ".svg": "image/svg+xml", ".tar": "application/x-tar", ".tgz": "application/gzip", ".tif": "image/tiff", ".tiff": "image/tiff",
	".txt": "text/plain; charset=utf-8", ".vcf": "text/vcard; charset=utf-8", ".wav": "audio/wav", ".webm": "video/webm", ".webp": "image/webp",
	".xls": "application/vnd.ms-excel", ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", ".xml": "text/xml; charset=utf-8",
	".xz": "application/x-xz", ".yaml": "application/yaml", ".yml": "application/yaml", ".zip": "application/zip", ".zst": "application/zstd",
}

func newContentTypes(list []MimeMapping) contentTypes {
	t := contentTypes{}
	for _, m := range list {
		t[strings.ToLower(m.Ext)] = m.Mime
	}
	return t
}

const unknownType = "application/octet-stream"

// of is the content type of a file.
func (t contentTypes) of(info vfs.FileInfo) string {
	ext := path.Ext(info.Name)
	if ext == "" || ext == info.Name {
		if info.ContentType != "" {
			return info.ContentType
		}
		return unknownType
	}
	for _, c := range ext {
		if c >= 'A' && c <= 'Z' {
			ext = strings.ToLower(ext)
			break
		}
	}
	if m, ok := t[ext]; ok {
		return m
	}
	if info.ContentType != "" {
		return info.ContentType
	}
	if m, ok := commonTypes[ext]; ok {
		return m
	}
	if m := mime.TypeByExtension(ext); m != "" {
		return m
	}
	return unknownType
}

// contentType is the content type of a file.
func (s *Server) contentType(info vfs.FileInfo) string { return s.types.of(info) }

// shown reports whether a browser may show content of a type in its window (WEB-2): what can run a script or pretend to be
// ours is only ever saved.
func shown(contentType string) bool {
	t, _, _ := strings.Cut(contentType, ";")
	switch t {
	case "image/svg+xml":
		return false
	case "text/plain":
		return true
	}
	return strings.HasPrefix(t, "image/") || strings.HasPrefix(t, "audio/") || strings.HasPrefix(t, "video/")
}
