package sftpfs

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/gantryhq/gantry/vfs"
)

// packet is one of a server, whole.
func packet(typ byte, build func(w *builder)) []byte {
	w := builder{b: []byte{0, 0, 0, 0, typ}}
	build(&w)
	binary.BigEndian.PutUint32(w.b, uint32(len(w.b)-4))
	return w.b
}

// FuzzAnswers: whatever a server sends is taken apart or refused, without a panic and with bounded memory (RES-1).
func FuzzAnswers(f *testing.F) {
	f.Add(byte(fxpStatus), packet(0, func(w *builder) { w.u32(4); w.str("Failure"); w.str("en") })[5:])
	f.Add(byte(fxpName), packet(0, func(w *builder) {
		w.u32(1)
		w.str("name")
		w.str("-rw-r--r-- name")
		w.attrs(vfs.Attr{Set: vfs.AttrMode | vfs.AttrOwner | vfs.AttrTimes, Mode: 0o644}, 7)
	})[5:])
	f.Add(byte(fxpAttrs), packet(0, func(w *builder) { w.u32(attrExtended); w.u32(1); w.str("a"); w.str("b") })[5:])
	f.Add(byte(fxpData), packet(0, func(w *builder) { w.str("data") })[5:])
	f.Add(byte(fxpHandle), []byte{255, 255, 255, 255})
	f.Fuzz(func(t *testing.T, typ byte, body []byte) {
		for _, want := range []byte{fxpStatus, fxpHandle, fxpData, fxpName, fxpAttrs} {
			r := reply{typ: typ, body: parser{b: body}}
			if r.want(want) != nil {
				continue
			}
			switch want {
			case fxpName:
				list, err := r.body.names()
				if err == nil && len(list) > len(body) {
					t.Fatalf("%d names of %d bytes", len(list), len(body))
				}
			case fxpAttrs:
				if i := r.body.info("f"); i.Size < 0 {
					t.Fatalf("size %d", i.Size)
				}
			case fxpData:
				k := piece{size: 10, ready: make(chan struct{})}
				k.take(reply{typ: typ, body: parser{b: body}})
				if len(k.data) > 10 {
					t.Fatalf("%d bytes of 10", len(k.data))
				}
			default:
				r.body.str()
			}
		}
	})
}

// FuzzStream: the packets of a server in any pieces.
func FuzzStream(f *testing.F) {
	version := packet(fxpVersion, func(w *builder) { w.u32(3); w.str("posix-rename@openssh.com"); w.str("1") })
	f.Add(append(bytes.Clone(version), packet(fxpAttrs, func(w *builder) { w.u32(1); w.attrs(vfs.Attr{}, 5) })...))
	f.Add(version)
	f.Add([]byte{0, 0, 0, 5, 2, 0, 0, 0, 2})
	f.Fuzz(func(t *testing.T, stream []byte) {
		here, there := net.Pipe()
		go io.Copy(io.Discard, there)
		go func() {
			there.Write(stream)
			there.Close()
		}()
		c, err := newClient(here)
		if err != nil {
			here.Close()
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		c.attrs(ctx, fxpStat, "/f", "f")
		c.close()
		if ctx.Err() != nil {
			t.Fatal("an answer that never comes")
		}
	})
}

// TestStatusesMeanWhatTheySay holds the table of status codes, and that a server's text cannot forge a log (LOG-1).
func TestStatusesMeanWhatTheySay(t *testing.T) {
	for code, want := range map[uint32]error{
		0: nil, 2: fs.ErrNotExist, 3: fs.ErrPermission, 8: vfs.ErrUnsupported, 11: fs.ErrExist, 14: vfs.ErrQuota, 15: vfs.ErrQuota, 18: vfs.ErrNotEmpty, 19: vfs.ErrNotDir, 24: vfs.ErrIsDir,
	} {
		r := reply{typ: fxpStatus, body: parser{b: packet(0, func(w *builder) {
			w.u32(code)
			w.str("bad\n\x1b[2J" + strings.Repeat("x", 1000))
		})[5:]}}
		err := r.want(fxpStatus)
		if !errors.Is(err, want) {
			t.Errorf("code %d is %v, want %v", code, err, want)
		}
		if err != nil && (strings.ContainsAny(err.Error(), "\n\x1b") || len(err.Error()) > 300) {
			t.Errorf("code %d shows %q", code, err)
		}
	}
}

// TestNamesThatAreNone: what is no single component is not shown, so that it is never asked for.
func TestNamesThatAreNone(t *testing.T) { // PATH-1
	here, there := net.Pipe()
	names := []string{".", "..", "good", "../up", "a/b", "", "nul\x00", "also good"}
	go func() {
		var head [4]byte
		for {
			if _, err := io.ReadFull(there, head[:]); err != nil {
				return
			}
			b := make([]byte, binary.BigEndian.Uint32(head[:]))
			io.ReadFull(there, b)
			var id uint32
			if b[0] != fxpInit {
				id = binary.BigEndian.Uint32(b[1:])
			}
			switch b[0] {
			case fxpInit:
				there.Write(packet(fxpVersion, func(w *builder) { w.u32(3) }))
			case fxpOpendir:
				there.Write(packet(fxpHandle, func(w *builder) { w.u32(id); w.str("h") }))
			case fxpReaddir:
				list := names
				names = nil
				if list == nil {
					there.Write(packet(fxpStatus, func(w *builder) { w.u32(id); w.u32(fxEOF) }))
					continue
				}
				there.Write(packet(fxpName, func(w *builder) {
					w.u32(id)
					w.u32(uint32(len(list)))
					for _, n := range list {
						w.str(n)
						w.str("long")
						w.attrs(vfs.Attr{Set: vfs.AttrMode, Mode: 0o644}, 1)
					}
				}))
			default:
				there.Write(packet(fxpStatus, func(w *builder) { w.u32(id); w.u32(0) }))
			}
		}
	}()
	c, err := newClient(here)
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	p := NewPool(Options{})
	defer p.Close()
	f, err := p.New(Config{Endpoint: "h:22"})
	if err != nil {
		t.Fatal(err)
	}
	f.r.conns = append(f.r.conns, &conn{client: c, r: f.r, net: here, ssh: noSSH{}})
	var got []string
	for i, err := range f.List(context.Background(), vfs.Root) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, i.Name)
	}
	if strings.Join(got, ",") != "good,also good" {
		t.Errorf("listed %q", got)
	}
}
