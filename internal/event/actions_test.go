package event

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/gantryhq/gantry/internal/event/hook"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// doer keeps the calls, and answers with err.
type doer struct {
	mu    sync.Mutex
	calls []hook.Call
	err   error
}

func (d *doer) Do(_ context.Context, c hook.Call) ([]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calls = append(d.calls, c)
	return nil, d.err
}

var sample = Event{
	Action: Upload, Username: "ann", Role: "staff", Path: "/srv/a\xff", Target: "/srv/t", VirtualPath: "/a\xff", VirtualTarget: "/t", SSHCmd: "md5sum",
	FileSize: 12, Elapsed: 3 * time.Millisecond, Provider: 1, Bucket: "b", Endpoint: "e", Status: OK, Protocol: "SFTP", IP: "192.0.2.1",
	SessionID: "SFTP_1_1", OpenFlags: 577, Time: time.Unix(1, 0), Metadata: map[string]string{"k": "v"},
}

func TestActionsTellEveryField(t *testing.T) {
	for _, target := range []string{"http://127.0.0.1/x", "/bin/true"} {
		d := &doer{}
		q := NewQueue("test", slog.New(slog.DiscardHandler))
		a := NewActions(ActionsConfig{ExecuteOn: []string{Upload}, Hook: target}, d, q, slog.New(slog.DiscardHandler))
		e := sample
		a.After(t.Context(), &e)
		e.Path = "changed" // it must not be kept
		e.Action = Download
		a.After(t.Context(), &e)
		q.Close(t.Context())
		if len(d.calls) != 1 {
			t.Fatalf("%d calls", len(d.calls))
		}
		c := d.calls[0]
		if target[0] == '/' {
			want := []string{"SFTPGO_ACTION=upload", "SFTPGO_ACTION_USERNAME=ann", "SFTPGO_ACTION_PATH=/srv/a\xff", "SFTPGO_ACTION_TARGET=/srv/t",
				"SFTPGO_ACTION_VIRTUAL_PATH=/a\xff", "SFTPGO_ACTION_VIRTUAL_TARGET=/t", "SFTPGO_ACTION_SSH_CMD=md5sum", "SFTPGO_ACTION_FILE_SIZE=12",
				"SFTPGO_ACTION_ELAPSED=3", "SFTPGO_ACTION_FS_PROVIDER=1", "SFTPGO_ACTION_BUCKET=b", "SFTPGO_ACTION_ENDPOINT=e", "SFTPGO_ACTION_STATUS=1",
				"SFTPGO_ACTION_PROTOCOL=SFTP", "SFTPGO_ACTION_IP=192.0.2.1", "SFTPGO_ACTION_SESSION_ID=SFTP_1_1", "SFTPGO_ACTION_OPEN_FLAGS=577",
				"SFTPGO_ACTION_TIMESTAMP=1003000000", "SFTPGO_ACTION_ROLE=staff", `SFTPGO_ACTION_METADATA={"k":"v"}`}
			if !slices.Equal(c.Env, want) {
				t.Errorf("got  %q\nwant %q", c.Env, want)
			}
			continue
		}
		want := `{"action":"upload","username":"ann","path":"/srv/a\\xff","target_path":"/srv/t","virtual_path":"/a\\xff","virtual_target_path":"/t",` +
			`"ssh_cmd":"md5sum","file_size":12,"elapsed":3,"fs_provider":1,"bucket":"b","endpoint":"e","status":1,"protocol":"SFTP","ip":"192.0.2.1",` +
			`"session_id":"SFTP_1_1","open_flags":577,"timestamp":1003000000,"role":"staff","metadata":{"k":"v"}}`
		if string(c.Body) != want || c.Method != "" || !c.Retry {
			t.Errorf("got  %s\nwant %s", c.Body, want)
		}
	}
}

// AUTH-5: a pre-hook that fails denies; one that is named without a hook does not.
func TestActionsRefuse(t *testing.T) {
	down := errors.New("down")
	q := NewQueue("test", slog.New(slog.DiscardHandler))
	defer q.Close(t.Context())
	cfg := ActionsConfig{ExecuteOn: []string{PreUpload, Upload}, ExecuteSync: []string{Upload}, Hook: "/x"}
	d := &doer{err: down}
	a := NewActions(cfg, d, q, slog.New(slog.DiscardHandler))
	if err := a.Before(t.Context(), &Event{Action: PreUpload}); !errors.Is(err, down) {
		t.Error(err)
	}
	if err := a.Before(t.Context(), &Event{Action: PreDelete}); err != nil {
		t.Error("an action that is not named was refused")
	}
	e := &Event{Action: Upload}
	if err := a.Approve(t.Context(), e); !errors.Is(err, down) || !e.Approved {
		t.Error(err)
	}
	a.After(t.Context(), e)
	if len(d.calls) != 2 {
		t.Errorf("%d calls: an upload that was asked about is told twice", len(d.calls))
	}
	a.After(t.Context(), &Event{Action: Upload, Status: Failed}) // synchronous, its answer does not matter
	if len(d.calls) != 3 {
		t.Errorf("%d calls", len(d.calls))
	}
	cfg.Hook = ""
	a = NewActions(cfg, d, q, slog.New(slog.DiscardHandler))
	if err := a.Before(t.Context(), &Event{Action: PreUpload}); err != nil {
		t.Error(err)
	}
}

func TestQueueIsBoundedAndSaysWhatItDrops(t *testing.T) { // RES-1
	var log strings.Builder
	q := NewQueue("test", slog.New(slog.NewTextHandler(&log, nil)))
	start, ran, atWork, peak := make(chan struct{}), atomic.Int64{}, atomic.Int64{}, atomic.Int64{}
	accepted := 0
	for range queueLength + queueWorkers + 100 {
		if q.Post(func(context.Context) {
			n := atWork.Add(1)
			for old := peak.Load(); n > old && !peak.CompareAndSwap(old, n); old = peak.Load() {
			}
			<-start
			ran.Add(1)
			atWork.Add(-1)
		}) {
			accepted++
		}
	}
	if accepted < queueLength || accepted > queueLength+queueWorkers {
		t.Errorf("%d of %d accepted", accepted, queueLength+queueWorkers+100)
	}
	close(start)
	q.Close(t.Context())
	if int(ran.Load()) != accepted || peak.Load() > queueWorkers {
		t.Errorf("%d ran of %d, %d at once", ran.Load(), accepted, peak.Load())
	}
	if !strings.Contains(log.String(), "dropped") {
		t.Error("nothing said what was dropped")
	}
	if q.Post(func(context.Context) { t.Error("ran after Close") }) {
		t.Error("accepted after Close")
	}
}

func TestQueueIsInterruptedAtTheEnd(t *testing.T) {
	q := NewQueue("test", slog.New(slog.DiscardHandler))
	begun, ended := make(chan struct{}), make(chan struct{})
	q.Post(func(ctx context.Context) { close(begun); <-ctx.Done(); close(ended) })
	<-begun
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	q.Close(ctx)
	<-ended
}

func TestProviderTells(t *testing.T) {
	d := &doer{}
	q := NewQueue("test", slog.New(slog.DiscardHandler))
	p := NewProvider(ProviderConfig{ExecuteOn: []string{"add"}, ExecuteFor: []string{"user"}, Hook: "/x"}, d, q, slog.New(slog.DiscardHandler))
	for _, c := range []Change{{Action: "add", Kind: "user", Name: "ann", By: "root", IP: "192.0.2.1", Object: map[string]int{"id": 1}},
		{Action: "update", Kind: "user"}, {Action: "add", Kind: "folder"}} {
		p.Notify(c)
	}
	q.Close(t.Context())
	if len(d.calls) != 1 {
		t.Fatalf("%d calls", len(d.calls))
	}
	c := d.calls[0]
	at := c.Query.Get("timestamp")
	want := []string{"SFTPGO_PROVIDER_ACTION=add", "SFTPGO_PROVIDER_OBJECT_TYPE=user", "SFTPGO_PROVIDER_OBJECT_NAME=ann", "SFTPGO_PROVIDER_USERNAME=root",
		"SFTPGO_PROVIDER_IP=192.0.2.1", "SFTPGO_PROVIDER_ROLE=", "SFTPGO_PROVIDER_TIMESTAMP=" + at, `SFTPGO_PROVIDER_OBJECT={"id":1}`}
	if !slices.Equal(c.Env, want) || len(at) != 19 || string(c.Body) != `{"id":1}` || c.Query.Has("role") ||
		c.Query.Encode() != "action=add&ip=192.0.2.1&object_name=ann&object_type=user&timestamp="+at+"&username=root" {
		t.Errorf("%q %s %s", c.Env, c.Query.Encode(), c.Body)
	}
}

func TestActionNamesAreChecked(t *testing.T) {
	var c ActionsConfig
	if err := json.Unmarshal([]byte(`{"execute_on":["upload","first-upload"],"execute_sync":["uplaod"],"hook":"x"}`), &c); err != nil {
		t.Fatal(err)
	}
	if err := c.Validate(); err == nil || !strings.Contains(err.Error(), "execute_sync") || strings.Contains(err.Error(), "execute_on") {
		t.Error(err)
	}
	if len(c.Unbuilt()) != 1 {
		t.Error(c.Unbuilt())
	}
	if err := (ProviderConfig{ExecuteFor: []string{"users"}}).Validate(); err == nil {
		t.Error("users is no kind")
	}
}
