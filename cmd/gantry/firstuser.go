package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/gantryhq/gantry/internal/account"
)

// firstUser is what --first-user found or made.
type firstUser struct {
	name     string
	password string // plain, for the console alone; empty when the user was there already
}

// makeFirstUser makes the user of --first-user with all permissions, unless it is there.
func (n *node) makeFirstUser(ctx context.Context) error {
	name := n.f.firstUser
	switch _, err := n.store.User(ctx, name); {
	case err == nil:
		n.made = &firstUser{name: name}
		return nil
	case !errors.Is(err, account.ErrNotFound):
		return fmt.Errorf("--first-user: %w", err)
	}
	// The name becomes a folder's name too.
	if text := account.DefaultRules().CheckName(name); text != "" {
		return fmt.Errorf("--first-user: the name %q %s", name, text)
	}
	password := strings.ToLower(rand.Text()) // 26 letters and digits, 128 bits (CRY-1)
	base := n.s.DataProvider.UsersBaseDir
	if base == "" {
		base = filepath.Join(n.s.dir, "users")
	}
	u := &account.User{
		Username:    name,
		Status:      1,
		Password:    password,
		HomeDir:     filepath.Join(base, name),
		Permissions: map[string][]string{"/": {"*"}},
		Description: "made at the first start",
	}
	if err := n.store.AddUser(ctx, u); err != nil {
		return fmt.Errorf("--first-user: %w", err)
	}
	n.log.Info("the first user was made", "sender", "service", "username", name)
	n.made = &firstUser{name: name, password: password}
	return nil
}
