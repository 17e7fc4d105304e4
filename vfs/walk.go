package vfs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
)

// walkDepth bounds what walks a tree, in levels.
const walkDepth = 1000

// Walk visits what lies below dir, for storages that list one directory at a time. list shows a directory's entries until
// show answers false; enter says which directories are gone into. A link is visited and never followed; what is gone
// meanwhile is left out. The directories of one level wait in memory. The error is visit's, list's, or ErrUnsupported
// for a tree of more than a thousand levels.
func Walk(ctx context.Context, dir Path, list func(ctx context.Context, dir Path, show func(FileInfo) bool) error,
	enter func(name string) bool, visit func(dir Path, i FileInfo) error) error {
	return walk(ctx, dir, 0, list, enter, visit)
}

func walk(ctx context.Context, dir Path, depth int, list func(ctx context.Context, dir Path, show func(FileInfo) bool) error,
	enter func(name string) bool, visit func(dir Path, i FileInfo) error) error {
	if depth > walkDepth {
		return fmt.Errorf("%w: more than %d levels", ErrUnsupported, walkDepth)
	}
	var below []string
	var wrong error
	err := list(ctx, dir, func(i FileInfo) bool {
		if i.IsDir() && enter(i.Name) {
			below = append(below, i.Name)
		}
		wrong = visit(dir, i)
		return wrong == nil
	})
	if err == nil {
		err = wrong
	}
	if err != nil {
		if depth > 0 && errors.Is(err, fs.ErrNotExist) {
			return nil // gone meanwhile
		}
		return err
	}
	for _, name := range below {
		p, err := dir.Child(name)
		if err != nil {
			return err
		}
		if err := walk(ctx, p, depth+1, list, enter, visit); err != nil {
			return err
		}
	}
	return nil
}

// Regular refuses what is no file: ErrIsDir, ErrSpecial.
func Regular(i FileInfo) error {
	switch {
	case i.Mode.IsRegular():
		return nil
	case i.IsDir():
		return ErrIsDir
	}
	return ErrSpecial
}
