package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/convert"
)

func (a *app) convertUsersCmd() *cobra.Command {
	opt := convert.Options{Rules: account.DefaultRules()}
	var shadow string
	var groups []string
	var keys bool
	cmd := &cobra.Command{
		Use:   "convert-users " + strings.Join(convert.Formats(), "|") + " FILE [DUMP]",
		Short: "Make a dump of another server's users",
		Long: "convert-users reads the users of a Unix system (passwd, with its shadow file), of ProFTPD (AuthUserFile) or of\n" +
			"Pure-FTPd, and writes a dump to DUMP or to standard output; gantry load takes it. Passwords stay as they are, as\n" +
			"hashes. What cannot be taken over is named; a user without a usable password is switched off.",
		Example: "  gantry convert-users passwd /etc/passwd --shadow /etc/shadow --keys users.json\n  gantry load users.json",
		Args:    cobra.RangeArgs(2, 3),
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if opt.GIDs, err = groupIDs(groups); err != nil {
				return err
			}
			if args[0] != "passwd" && !cmd.Flags().Changed("min-uid") {
				opt.MinUID = 0 // such files hold no users of the system
			}
			if opt.MinUID < 0 || opt.MaxUID < opt.MinUID {
				return fmt.Errorf("--min-uid must not be negative nor larger than --max-uid")
			}
			for _, g := range opt.Users {
				if _, err := filepath.Match(g, ""); err != nil {
					return fmt.Errorf("--users: %q: %w", g, err)
				}
			}
			if keys {
				opt.Keys = authorizedKeys
			}
			return a.convertUsers(args, shadow, opt)
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&shadow, "shadow", "", "shadow file of a passwd file")
	fs.BoolVar(&keys, "keys", false, "take the public keys of each home's .ssh/authorized_keys")
	fs.StringSliceVar(&opt.Users, "users", nil, "only these names, globs allowed")
	fs.StringSliceVar(&groups, "groups", nil, "only users with these primary groups, by id or name")
	fs.IntVar(&opt.MinUID, "min-uid", 1000, "only users from this id on (passwd; 0 for the other formats)")
	fs.IntVar(&opt.MaxUID, "max-uid", 60000, "only users up to this id")
	fs.IntVar(&opt.UID, "force-uid", -1, "give all users this uid, 0 for none, -1 for their own")
	fs.IntVar(&opt.GID, "force-gid", -1, "give all users this gid, 0 for none, -1 for their own")
	return cmd
}

// convertUsers converts args[1] from the format args[0] to args[2] or standard output.
func (a *app) convertUsers(args []string, shadow string, opt convert.Options) error {
	users, err := os.Open(args[1])
	if err != nil {
		return fmt.Errorf("convert-users: %w", err)
	}
	defer users.Close()
	var s io.Reader // stays nil without a file
	if shadow != "" {
		f, err := os.Open(shadow)
		if err != nil {
			return fmt.Errorf("convert-users: %w", err)
		}
		defer f.Close()
		s = f
	}
	r, err := convert.File(args[0], users, s, opt)
	if err != nil {
		return fmt.Errorf("convert-users: %w", err)
	}
	for _, n := range r.Notes {
		fmt.Fprintf(a.stderr, "note: %s\n", printable(n.String()))
	}
	if len(r.Users) == 0 {
		return errors.New("convert-users: no user was chosen: look at --min-uid, --max-uid, --groups and --users")
	}
	d := &account.Dump{Users: r.Users, Version: account.DumpVersion}
	if len(args) < 3 || args[2] == "-" {
		return writeDump(a.stdout, d)
	}
	if err := dumpTo(args[2], d); err != nil {
		return err
	}
	fmt.Fprintf(a.stderr, "%d users are in %s, which holds password hashes: keep it safe\n", len(r.Users), args[2])
	return nil
}

// groupIDs gives the ids of groups by id or name.
func groupIDs(names []string) ([]int, error) {
	var out []int
	for _, name := range names {
		id := name
		if _, err := strconv.ParseUint(name, 10, 32); err != nil {
			g, err := user.LookupGroup(name)
			if err != nil {
				return nil, fmt.Errorf("--groups: %w", err)
			}
			id = g.Gid
		}
		n, err := strconv.ParseUint(id, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("--groups: the id %q is not a number", id)
		}
		if !slices.Contains(out, int(n)) {
			out = append(out, int(n))
		}
	}
	return out, nil
}

// maxKeyFile bounds an authorized_keys file.
const maxKeyFile = 1 << 20

// authorizedKeys reads a home's public keys. No file means none. The home belongs to its user, so nothing but a
// regular file inside it is read.
func authorizedKeys(home string) ([]string, error) {
	root, err := os.OpenRoot(home)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer root.Close()
	const name = ".ssh/authorized_keys"
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a pipe must not block
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	switch st, err := f.Stat(); {
	case err != nil:
		return nil, err
	case !st.Mode().IsRegular():
		return nil, fmt.Errorf("%s is not a regular file", name)
	case st.Size() > maxKeyFile:
		return nil, fmt.Errorf("%s is larger than %d bytes", name, maxKeyFile)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxKeyFile))
	return strings.Split(string(data), "\n"), err
}
