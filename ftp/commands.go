package ftp

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/gantryhq/gantry/internal/session"
	"github.com/gantryhq/gantry/vfs"
)

// needs says what a command asks of the connection.
type needs uint16

const (
	anyone   needs = 1 << iota // before a login too (FTP-7)
	argument                   // a parameter
	data                       // opens a data connection
	stores                     // refusals are those of STOR
	keeps                      // REST, RANG and ALLO stay
	quick                      // answered from memory, or by a transfer of its own: it does not block
)

// command is a row of the table.
type command struct {
	run   func(*conn, context.Context, string) error
	needs needs
	feat  string                         // its line of FEAT
	on    func(*conn) bool               // nil: always there
	slow  func(c *conn, arg string) bool // it may block; nil: it may, unless it is quick
	rfc   string
}

func hasTLS(c *conn) bool   { return c.b.tls != nil }
func hashes(c *conn) bool   { return c.srv.cfg.HashSupport == 1 }
func combines(c *conn) bool { return c.srv.cfg.CombineSupport == 1 }

// commandTable makes the table of the control connection's commands. A Server holds it.
func commandTable() map[string]command {
	t := map[string]command{
		"USER": {run: (*conn).userCmd, needs: anyone | argument, slow: func(c *conn, _ string) bool { return c.certificate() != nil }, rfc: "959 4.1.1"},
		"PASS": {run: (*conn).pass, needs: anyone, rfc: "959 4.1.1"},
		"ACCT": {run: (*conn).acct, needs: quick | argument, rfc: "959 4.1.1"},
		"REIN": {run: (*conn).rein, rfc: "959 4.1.1"},
		"QUIT": {run: (*conn).quitCmd, needs: quick | anyone, rfc: "959 4.1.1"},
		"AUTH": {run: (*conn).auth, needs: quick | anyone | argument, feat: "AUTH TLS", on: hasTLS, rfc: "4217 4"},
		"PBSZ": {run: (*conn).pbszCmd, needs: quick | anyone | argument, feat: "PBSZ", on: hasTLS, rfc: "4217 9"},
		"PROT": {run: (*conn).prot, needs: quick | anyone | argument, feat: "PROT", on: hasTLS, rfc: "4217 9"},
		"CCC":  {run: (*conn).ccc, needs: quick, on: hasTLS, rfc: "4217 5"},
		"HOST": {run: (*conn).host, needs: quick | anyone | argument, feat: "HOST", rfc: "7151"},
		"CLNT": {run: (*conn).clnt, needs: quick | anyone, feat: "CLNT"},
		"FEAT": {run: (*conn).featCmd, needs: quick | anyone, rfc: "2389 3"},
		"OPTS": {run: (*conn).opts, needs: quick | anyone | argument, rfc: "2389 4"},
		"HELP": {run: (*conn).help, needs: quick | anyone, rfc: "959 4.1.3"},
		"NOOP": {run: (*conn).noop, needs: quick | anyone | keeps, rfc: "959 4.1.3"},
		"SYST": {run: (*conn).syst, needs: quick, rfc: "959 4.1.3"},
		"STAT": {run: (*conn).stat, needs: keeps, slow: func(_ *conn, arg string) bool { return listArg(arg) != "" }, rfc: "959 4.1.3"},
		"TYPE": {run: (*conn).typeCmd, needs: quick | argument | keeps, rfc: "959 3.1.1"},
		"STRU": {run: (*conn).stru, needs: quick | argument | keeps, rfc: "959 3.1.2"},
		"MODE": {run: (*conn).modeCmd, needs: quick | argument | keeps, feat: "MODE Z", rfc: "959 3.4"},
		"PASV": {run: (*conn).pasv, needs: keeps, slow: func(c *conn, _ string) bool { return c.b.PassiveHost != "" }, rfc: "959 4.1.2"},
		"EPSV": {run: (*conn).epsv, needs: quick | keeps, feat: "EPSV", rfc: "2428 3"},
		"PORT": {run: (*conn).port, needs: quick | argument | keeps, rfc: "959 4.1.2"},
		"EPRT": {run: (*conn).eprt, needs: quick | argument | keeps, feat: "EPRT", rfc: "2428 2"},
		"REST": {run: (*conn).rest, needs: quick | argument | keeps, feat: "REST STREAM", rfc: "3659 5"},
		"RANG": {run: (*conn).rang, needs: quick | argument | keeps, feat: "RANG STREAM"},
		"ALLO": {run: (*conn).alloCmd, needs: quick | argument | keeps, rfc: "959 4.1.3"},
		"RETR": {run: (*conn).retr, needs: quick | argument | data, rfc: "959 4.1.3"},
		"STOR": {run: (*conn).stor, needs: quick | argument | data | stores, rfc: "959 4.1.3"},
		"APPE": {run: (*conn).appe, needs: quick | argument | data | stores, rfc: "959 4.1.3"},
		"STOU": {run: (*conn).stou, needs: quick | data | stores, rfc: "959 4.1.3"},
		"ABOR": {run: (*conn).abor, needs: quick, rfc: "959 4.1.3"},
		"LIST": {run: (*conn).listCmd, needs: quick | data, rfc: "959 4.1.3"},
		"NLST": {run: (*conn).nlst, needs: quick | data, rfc: "959 4.1.3"},
		"MLSD": {run: (*conn).mlsd, needs: quick | data, rfc: "3659 7"},
		"MLST": {run: (*conn).mlst, rfc: "3659 7"},
		"SIZE": {run: (*conn).size, needs: argument, feat: "SIZE", rfc: "3659 4"},
		"MDTM": {run: (*conn).mdtm, needs: argument, feat: "MDTM", rfc: "3659 3"},
		"MFMT": {run: (*conn).mfmt, needs: argument, feat: "MFMT"},
		"CWD":  {run: (*conn).cwdCmd, needs: argument, rfc: "959 4.1.1"},
		"CDUP": {run: (*conn).cdup, needs: quick, rfc: "959 4.1.1"},
		"PWD":  {run: (*conn).pwd, needs: quick, rfc: "959 4.1.3"},
		"MKD":  {run: (*conn).mkd, needs: argument, rfc: "959 4.1.3"},
		"RMD":  {run: (*conn).rmd, needs: argument, rfc: "959 4.1.3"},
		"DELE": {run: (*conn).dele, needs: argument, rfc: "959 4.1.3"},
		"RNFR": {run: (*conn).rnfr, needs: argument, rfc: "959 4.1.3"},
		"RNTO": {run: (*conn).rnto, needs: argument | stores, rfc: "959 4.1.3"},
		"AVBL": {run: (*conn).avbl, feat: "AVBL"},
		"SITE": {run: (*conn).site, needs: argument, on: func(c *conn) bool { return c.srv.cfg.EnableSite }, rfc: "959 4.1.3"},
		"HASH": {run: (*conn).hashCmd, needs: argument | keeps, on: hashes},
		"COMB": {run: (*conn).comb, needs: argument | stores, feat: "COMB", on: combines},
	}
	for verb, algo := range map[string]string{
		"XCRC": "crc32", "MD5": "md5", "XMD5": "md5", "XSHA": "sha1", "XSHA1": "sha1", "XSHA256": "sha256", "XSHA512": "sha512",
	} {
		t[verb] = command{run: func(c *conn, ctx context.Context, arg string) error { return c.oldHash(ctx, verb, algo, arg) },
			needs: argument | keeps, feat: verb, on: hashes}
	}
	for old, verb := range map[string]string{"XCWD": "CWD", "XCUP": "CDUP", "XPWD": "PWD", "XMKD": "MKD", "XRMD": "RMD"} {
		t[old] = t[verb]
	}
	return t
}

func (c *conn) featCmd(context.Context, string) error {
	lines := []string{"UTF8", "TVFS", "MLST " + c.facts.list(true)}
	if hashes(c) {
		var l []string
		for i, a := range hashNames {
			if i == int(c.hash) {
				a.name += "*"
			}
			l = append(l, a.name)
		}
		lines = append(lines, "HASH "+strings.Join(l, ";"))
	}
	for _, cmd := range c.srv.commands {
		if cmd.feat != "" && (cmd.on == nil || cmd.on(c)) && !slices.Contains(lines, cmd.feat) {
			lines = append(lines, cmd.feat)
		}
	}
	slices.Sort(lines)
	return c.reply(211, "Features:\n"+strings.Join(lines, "\n")+"\nEnd")
}

func (c *conn) help(_ context.Context, arg string) error {
	if v := strings.ToUpper(arg); v != "" {
		if cmd, ok := c.srv.commands[v]; ok && (cmd.on == nil || cmd.on(c)) {
			return c.reply(214, v+" is there, see RFC "+cmd.rfc)
		}
		return fail(502, "Unknown command")
	}
	var l []string
	for v, cmd := range c.srv.commands {
		if cmd.on == nil || cmd.on(c) {
			l = append(l, v)
		}
	}
	slices.Sort(l)
	var b strings.Builder
	b.WriteString("The commands are")
	for i, v := range l {
		if i%10 == 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "%-8s", v)
	}
	return c.reply(214, b.String()+"\nEnd")
}

func (c *conn) opts(_ context.Context, arg string) error {
	what, rest, _ := strings.Cut(arg, " ")
	switch strings.ToUpper(what) {
	case "UTF8", "UTF-8":
		if strings.EqualFold(strings.TrimSpace(rest), "off") {
			return errParameter
		}
		return c.reply(200, "UTF8 is always on")
	case "MLST":
		c.facts = parseFacts(rest)
		return c.reply(200, strings.TrimSpace("MLST OPTS "+c.facts.list(false)))
	case "MODE":
		return c.optsMode(rest)
	case "HASH":
		if !hashes(c) {
			break
		}
		for i, a := range hashNames {
			if strings.EqualFold(strings.TrimSpace(rest), a.name) {
				c.hash = uint8(i)
				return c.reply(200, a.name)
			}
		}
		return errParameter
	}
	return fail(501, "Unknown option")
}

func (c *conn) noop(context.Context, string) error { return c.reply(200, "OK") }
func (c *conn) syst(context.Context, string) error { return c.reply(215, "UNIX Type: L8") }

func (c *conn) clnt(_ context.Context, arg string) error {
	if c.s == nil {
		c.client = arg[:min(len(arg), 128)]
	}
	return c.reply(200, "Noted")
}

func (c *conn) typeCmd(_ context.Context, arg string) error {
	switch strings.ToUpper(strings.TrimSpace(arg)) {
	case "I", "L8", "L 8", "IMAGE":
		c.ascii = false
	case "A", "A N", "L7", "L 7":
		c.ascii = c.b.IgnoreASCIITransferType == 0
	default:
		return errParameter
	}
	return c.reply(200, "Type set to "+strings.ToUpper(arg[:1]))
}

func (c *conn) stru(_ context.Context, arg string) error {
	if !strings.EqualFold(arg, "F") {
		return errParameter
	}
	return c.reply(200, "Structure set to F")
}

func (c *conn) modeCmd(_ context.Context, arg string) error {
	switch strings.ToUpper(arg) {
	case "S":
		c.deflates = false
	case "Z":
		c.deflates = true
	default:
		return errParameter
	}
	return c.reply(200, "Mode set to "+strings.ToUpper(arg))
}

// optsMode takes "Z LEVEL 1" to 9 (draft-preston-ftpext-deflate 3.3).
func (c *conn) optsMode(rest string) error {
	f := strings.Fields(strings.ToUpper(rest))
	if len(f) != 3 || f[0] != "Z" || f[1] != "LEVEL" {
		return fail(501, "Only MODE Z LEVEL, 1 to 9")
	}
	n, err := decimal(f[2], 1, 9)
	if err != nil || n == 0 {
		return fail(501, "The level is 1 to 9")
	}
	c.level = int8(n)
	return c.reply(200, "MODE Z LEVEL set to "+f[2])
}

func (c *conn) rest(_ context.Context, arg string) error {
	n, err := decimal(strings.TrimSpace(arg), 19, 1<<50)
	if err != nil {
		return err
	}
	if c.ascii && n > 0 {
		return fail(501, "No restart in ASCII mode")
	}
	c.offset, c.ranged = n, false
	return c.reply(350, fmt.Sprintf("Restarting at %d", n))
}

// rang sets the first and last byte of the next RETR; a first byte past the last takes it back.
func (c *conn) rang(_ context.Context, arg string) error {
	a, b, _ := strings.Cut(strings.TrimSpace(arg), " ")
	from, err := decimal(a, 19, 1<<50)
	if err != nil {
		return err
	}
	to, err := decimal(strings.TrimSpace(b), 19, 1<<50)
	if err != nil {
		return err
	}
	if c.ascii {
		return fail(501, "No ranges in ASCII mode")
	}
	if c.ranged = from <= to; !c.ranged {
		c.offset = 0
		return c.reply(350, "Range reset")
	}
	c.offset, c.last = from, to
	return c.reply(350, fmt.Sprintf("Range set to %d-%d", from, to))
}

func (c *conn) alloCmd(_ context.Context, arg string) error {
	f := strings.Fields(arg)
	if len(f) == 0 {
		return errSyntax
	}
	n, err := decimal(f[0], 19, 1<<50)
	if err != nil {
		return err
	}
	c.allo = n
	return c.reply(200, "ALLO command successful")
}

func (c *conn) stat(ctx context.Context, arg string) error {
	if arg = listArg(arg); arg == "" {
		text := "Gantry\nLogged in as " + c.s.Username()
		if x := c.x; x != nil {
			text += fmt.Sprintf("\n%s in progress, %d bytes", x.name, x.bytes.Load())
		}
		return c.reply(211, text+"\nEnd")
	}
	const most = 1000 // entries of a listing on the control connection (FTP-5)
	var b strings.Builder
	n, line := 0, []byte(nil)
	err := c.each(ctx, arg, func(name string, i *vfs.FileInfo) error {
		if n++; n <= most {
			line = appendLong(line[:0], i, c.srv.now())
			b.WriteByte('\n')
			b.Write(line[:len(line)-2])
		}
		return nil
	})
	if err != nil {
		return err
	}
	return c.reply(213, "Status"+b.String()+"\nEnd")
}

// splitGlob parts a listing's argument: a pattern may stand in its last element.
func splitGlob(arg string) (dir, pattern string, ok bool) {
	i := strings.LastIndexByte(arg, '/') + 1
	if !strings.ContainsAny(arg[i:], "*?[") {
		return arg, "", false
	}
	return arg[:i], arg[i:], true
}

func match(pattern, name string) bool {
	ok, err := path.Match(pattern, name)
	return err == nil && ok
}

func (c *conn) listCmd(_ context.Context, arg string) error {
	arg = listArg(arg)
	return c.list("LIST", arg, func(ctx context.Context, put func([]byte) error) error {
		var line []byte
		now := c.srv.now()
		return c.each(ctx, arg, func(name string, i *vfs.FileInfo) error {
			line = appendLong(line[:0], i, now)
			return put(line)
		})
	})
}

func (c *conn) nlst(_ context.Context, arg string) error {
	arg = listArg(arg)
	return c.list("NLST", arg, func(ctx context.Context, put func([]byte) error) error {
		var line []byte
		return c.each(ctx, arg, func(name string, i *vfs.FileInfo) error {
			line = append(appendName(line[:0], name), '\r', '\n')
			return put(line)
		})
	})
}

func (c *conn) mlsd(_ context.Context, arg string) error {
	dir, err := c.resolve(arg)
	if err != nil {
		return err
	}
	f := c.facts
	return c.list("MLSD", arg, func(ctx context.Context, put func([]byte) error) error {
		if i, err := c.s.Stat(ctx, dir); err == nil && !i.IsDir() {
			return fail(501, "Not a directory") // RFC 3659 7.2.1
		}
		var line []byte
		for i, err := range c.s.List(ctx, dir) {
			if err != nil {
				if i.Name != "" {
					continue
				}
				return err
			}
			line = append(f.append(line[:0], &i, "", i.Name), '\r', '\n')
			if err := put(line); err != nil {
				return err
			}
		}
		return nil
	})
}

func (c *conn) mlst(ctx context.Context, arg string) error {
	p, err := c.resolve(arg)
	if err != nil {
		return err
	}
	i, err := c.s.Stat(ctx, p)
	if err != nil {
		return err
	}
	return c.reply(250, "Listing\n"+string(c.facts.append(nil, &i, "", p.String()))+"\nEnd")
}

func (c *conn) stou(_ context.Context, arg string) error {
	return c.store("STOU", "ftp-"+strings.ToLower(randomText()), session.Flags{Exclusive: true, Truncate: true})
}
