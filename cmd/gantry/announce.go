package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/gantryhq/gantry/internal/account"
)

// announce tells the operator what serves where and what to do next. It is the only place that ever shows
// the first user's password.
func (n *node) announce(w io.Writer) {
	fmt.Fprintf(w, "Gantry %s is ready. Ctrl-C stops it.\n\n", version)
	for _, l := range n.listeners {
		fmt.Fprintf(w, "  SFTP      %s\n", l.Addr())
	}
	for _, d := range n.ftpDoors {
		fmt.Fprintf(w, "  FTP       %s\n", d.Addr())
	}
	for _, d := range n.davDoors {
		fmt.Fprintf(w, "  WebDAV    %s\n", d.Addr())
	}
	for _, d := range n.httpDoors {
		fmt.Fprintf(w, "  HTTP      %s\n", d.Addr())
	}
	if n.telemetry != nil {
		fmt.Fprintf(w, "  telemetry %s\n", n.telemetry.door.Addr())
	}
	keys := n.ssh.HostKeys()
	if len(n.listeners) == 0 {
		keys = nil // nobody will see them
	}
	for _, k := range keys {
		note := ""
		if k.Created {
			note = "  (new)"
		}
		fmt.Fprintf(w, "  host key  %s %s%s\n", k.Type, k.Fingerprint, note)
	}
	fmt.Fprintf(w, "  data      %s\n", printable(n.s.dir))
	if n.s.report.File != "" {
		fmt.Fprintf(w, "  config    %s\n", printable(n.s.report.File))
	}
	if p := n.f.log.Path; p != "" {
		fmt.Fprintf(w, "  log       %s\n", printable(p))
	}
	fmt.Fprintln(w)
	if n.setupToken != "" {
		fmt.Fprintf(w, "  There is no administrator yet. Make the first one with this token, which is good once and until the next start:\n\n"+
			"      curl -d '{\"token\":\"%s\",\"username\":\"admin\",\"password\":\"…\"}' %s\n\n", n.setupToken, n.setupURL())
	}
	connect := n.connect()
	switch {
	case n.made != nil && n.made.password != "":
		fmt.Fprintf(w, "  The account %s was made. Its password is shown this once:\n\n      %s\n\n", n.made.name, n.made.password)
		fmt.Fprintf(w, "  Connect with: %s\n\n", connect)
	case n.made != nil:
		fmt.Fprintf(w, "  The account %s was there already, its password is unchanged.\n  Connect with: %s\n\n", n.made.name, connect)
	case n.empty():
		fmt.Fprintf(w, "  There is no account yet. Stop and make one with: make run FIRST_USER=name\n  or load a dump: gantry load FILE -c %s\n\n", printable(n.s.dir))
	}
}

// connect is a command line for the first user.
func (n *node) connect() string {
	name, format := "", "sftp -P %[1]s %[3]s@%[2]s"
	if n.made != nil {
		name = n.made.name
	}
	var at net.Addr
	if len(n.listeners) > 0 {
		at = n.listeners[0].Addr()
	} else if len(n.ftpDoors) == 0 && len(n.davDoors) > 0 {
		b := n.s.WebDAVD.Bindings[n.davDoors[0].index]
		scheme := "http"
		if b.EnableHTTPS {
			scheme = "https"
		}
		at, format = n.davDoors[0].Addr(), "rclone lsl --webdav-url "+scheme+"://%[2]s:%[1]s"+b.Prefix+"/ --webdav-user %[3]s --webdav-pass \"$(rclone obscure PASSWORD)\" :webdav:"
	} else if len(n.ftpDoors) == 0 {
		at, format = n.httpDoors[0].Addr(), "curl -u %[3]s http://%[2]s:%[1]s/api/v2/user/token"
	} else {
		at, format = n.ftpDoors[0].Addr(), "lftp -u %[3]s ftp://%[2]s:%[1]s"
	}
	host, port := "localhost", ""
	if a, ok := at.(*net.TCPAddr); ok {
		port = fmt.Sprint(a.Port)
		if !a.IP.IsUnspecified() && !a.IP.IsLoopback() {
			host = a.IP.String()
		}
	}
	return fmt.Sprintf(format, port, host, name)
}

// empty reports whether the store has no user.
func (n *node) empty() bool {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second) // a word on the console is not worth more
	defer cancel()
	users, err := n.store.ListUsers(ctx, account.Page{Limit: 1})
	return err == nil && len(users) == 0
}
