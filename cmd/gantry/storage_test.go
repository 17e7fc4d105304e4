package main

import (
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/secret"
	"github.com/gantryhq/gantry/internal/session"
	"github.com/gantryhq/gantry/vfs"
)

// TestStoragesOpenSealedSecrets: a record's passphrase is opened for its storage and nowhere else (CRY-3).
func TestStoragesOpenSealedSecrets(t *testing.T) {
	ctx := context.Background()
	s := &settings{Config: defaultConfig()}
	s.KMS.Secrets.MasterKey = "the master key of this test"
	x, err := s.newStorages(false, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	cfg := account.FilesystemConfig{Provider: account.CryptProvider, CryptConfig: account.CryptConfig{Passphrase: secret.New("a passphrase")}}
	if err := account.SealSecrets(x.box, &cfg, "ann"); err != nil {
		t.Fatal(err)
	}
	sealed := cfg
	st := session.Storage{Config: &cfg, Root: filepath.Join(t.TempDir(), "a", "b"), Create: true}
	f, err := x.open(ctx, st)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if cfg.CryptConfig.Passphrase != sealed.CryptConfig.Passphrase {
		t.Error("the record itself was opened")
	}
	name, _ := vfs.ParsePath("/f")
	u, err := f.Create(ctx, name, vfs.OpenMode{Truncate: true})
	if err != nil {
		t.Fatal(err)
	}
	u.WriteAt([]byte("what nobody reads"), 0)
	if _, err := u.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	stored, err := os.ReadFile(filepath.Join(st.Root, "f"))
	if err != nil || strings.Contains(string(stored), "nobody") || stored[0] != 0x10 {
		t.Errorf("stored %q, %v", stored, err)
	}
	h, err := f.Open(ctx, name)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	if b, err := io.ReadAll(io.NewSectionReader(h, 0, 100)); string(b) != "what nobody reads" || err != nil {
		t.Errorf("read %q, %v", b, err)
	}

	s.KMS.Secrets.MasterKey = ""
	if x, err = s.newStorages(false, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	if _, err := x.open(ctx, st); err == nil || !strings.Contains(err.Error(), "master_key") {
		t.Errorf("without the master key: %v", err)
	}
}
