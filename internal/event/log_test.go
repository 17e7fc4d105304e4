package event_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/gantryhq/gantry/internal/event"
)

func record(t *testing.T, e event.Event) string {
	t.Helper()
	var out bytes.Buffer
	s := event.LogSink(slog.New(slog.NewJSONHandler(&out, nil)))
	if err := s.Before(context.Background(), &e); err != nil {
		t.Fatal(err)
	}
	s.After(context.Background(), &e)
	return strings.TrimSpace(out.String())
}

var base = event.Event{
	Username: "ann", Path: "/srv/ann/f", VirtualPath: "/f", LocalAddr: "192.0.2.1:22", RemoteAddr: "192.0.2.7:4022",
	Protocol: "SFTP", SessionID: "SFTP_x_1", Bytes: 12, Elapsed: 1500 * time.Millisecond,
}

// guard.md 8.1
func TestTransferRecord(t *testing.T) {
	e := base
	e.Action = event.Upload
	want := `"level":"INFO".*"sender":"Upload","local_addr":"192.0.2.1:22","remote_addr":"192.0.2.7:4022","elapsed_ms":1500,"size_bytes":12,` +
		`"username":"ann","file_path":"/srv/ann/f","virtual_path":"/f","connection_id":"SFTP_x_1","protocol":"SFTP"}$`
	if got := record(t, e); !regexp.MustCompile(want).MatchString(got) {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	e.Action, e.Err = event.Download, errors.New("connection lost")
	if got := record(t, e); !strings.HasSuffix(got, `"protocol":"SFTP","error":"connection lost"}`) || !strings.Contains(got, `"sender":"Download"`) {
		t.Errorf("got %s", got)
	}
}

// guard.md 8.2
func TestCommandRecord(t *testing.T) {
	e := base
	e.Action, e.Target, e.VirtualTarget = event.Rename, "/srv/ann/g", "/g"
	want := `"sender":"Rename","local_addr":"192.0.2.1:22","remote_addr":"192.0.2.7:4022","username":"ann","file_path":"/srv/ann/f","target_path":"/srv/ann/g",` +
		`"filemode":"","uid":-1,"gid":-1,"access_time":"","modification_time":"","size":-1,"elapsed":1500,"ssh_command":"","connection_id":"SFTP_x_1","protocol":"SFTP",` +
		`"virtual_path":"/f","virtual_target_path":"/g"}`
	if got := record(t, e); !strings.Contains(got, want) {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	e.Action, e.UID, e.GID = event.Chown, 5, 6
	if got := record(t, e); !strings.Contains(got, `"uid":5,"gid":6`) {
		t.Errorf("got %s", got)
	}
	e.Action = event.PreUpload
	if got := record(t, e); got != "" {
		t.Errorf("a hook's question was logged: %s", got)
	}
}

// LOG-1: what a peer names cannot break a record, nor pass for something else.
func TestNamesInRecordsAreEscaped(t *testing.T) {
	e := base
	e.Action, e.VirtualPath = event.Upload, "/a\n\x1b[31m\xff\"}"
	got := record(t, e)
	if strings.Count(got, "\n") != 0 || strings.Contains(got, "\x1b") || !strings.Contains(got, `\\xff`) {
		t.Errorf("got %s", got)
	}
	if n := len(event.Text(strings.Repeat("x", 1<<20))); n > 9000 {
		t.Errorf("%d bytes", n)
	}
}
