package main

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gantryhq/gantry/internal/egress"
	"github.com/gantryhq/gantry/vfs"
	"github.com/gantryhq/gantry/vfs/object"
)

// Cloud is what holds for all object storages.
type Cloud struct {
	MemoryMB   int `json:"cloud_memory_mb"`   // that all transfers with object storages may hold, MiB; 0 is a quarter of what the process may have
	SweepHours int `json:"cloud_sweep_hours"` // age at which an upload that was never finished is removed from its bucket; 0 leaves them
}

// cloud is what the object storages share.
type cloud struct {
	options object.Options // of each, but for the prefix
	egress  *egress.Policy
	log     *slog.Logger

	ctx    context.Context // of the sweeps
	cancel context.CancelFunc
	sweeps sync.WaitGroup

	mu    sync.Mutex // guards swept
	swept map[string]time.Time
}

func newCloud(c *Common, policy *egress.Policy, log *slog.Logger) *cloud {
	limit := int64(c.Cloud.MemoryMB) << 20
	if limit == 0 {
		limit = memoryLimit() / 4
	}
	age := time.Duration(c.Cloud.SweepHours) * time.Hour
	if age == 0 {
		age = never
	}
	x := &cloud{egress: policy, log: log, swept: map[string]time.Time{}}
	x.options = object.Options{
		Memory: object.NewMemory(limit), RenameDirs: c.Session.RenameMode == 1,
		Pool: object.NewPool(), SweepAge: age, Log: log.With("sender", "storage"),
	}
	x.ctx, x.cancel = context.WithCancel(context.Background()) // of the process: close ends it
	return x
}

// close ends the sweeps.
func (x *cloud) close() {
	x.cancel()
	x.sweeps.Wait()
}

// never is an age that no upload has.
const never = 100 * 365 * 24 * time.Hour

// sweepEvery is how often the unfinished uploads of one storage are looked for.
const sweepEvery = 24 * time.Hour

// opened has what old uploads left in the storage removed, once a day.
func (x *cloud) opened(f vfs.FS, err error) (vfs.FS, error) {
	d, ok := f.(vfs.Describer)
	if err != nil || !ok || x.options.SweepAge == never {
		return f, err
	}
	id := d.Describe(vfs.Root).Identity
	x.mu.Lock()
	due := time.Since(x.swept[id]) > sweepEvery && x.ctx.Err() == nil
	if due {
		x.swept[id] = time.Now()
	}
	x.mu.Unlock()
	s, ok := f.(vfs.Sweeper)
	if !due || !ok {
		return f, nil
	}
	x.sweeps.Go(func() { // ends with its requests, which close cancels
		ctx, cancel := context.WithTimeout(x.ctx, 10*time.Minute)
		defer cancel()
		switch n, err := s.Sweep(ctx, time.Now()); {
		case err != nil && x.ctx.Err() == nil:
			x.log.Warn("unfinished uploads were not looked for", "sender", "storage", "storage", id, "error", err)
		case n > 0:
			x.log.Info("unfinished uploads removed", "sender", "storage", "storage", id, "uploads", n)
		}
	})
	return f, nil
}

// memoryLimit is what the process may have, in bytes: GOMEMLIMIT, the control group's limit or the machine's memory.
func memoryLimit() int64 {
	limit := int64(2 << 30) // where nobody tells
	if b, err := os.ReadFile("/proc/meminfo"); err == nil {
		if _, rest, ok := bytes.Cut(b, []byte("MemTotal:")); ok {
			if f := strings.Fields(string(rest)); len(f) > 0 {
				if kb, err := strconv.ParseInt(f[0], 10, 64); err == nil {
					limit = kb << 10
				}
			}
		}
	}
	if n := cgroupLimit(); n > 0 {
		limit = min(limit, n)
	}
	return min(limit, debug.SetMemoryLimit(-1))
}

// cgroupLimit is the memory limit of the process's control group, of either version, or 0.
func cgroupLimit() int64 {
	b, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3) // hierarchy, controllers, path
		if len(f) != 3 {
			continue
		}
		var files []string
		switch {
		case f[1] == "memory":
			const root = "/sys/fs/cgroup/memory"
			files = []string{root + f[2] + "/memory.limit_in_bytes", root + "/memory.limit_in_bytes"}
		case f[0] == "0":
			const root = "/sys/fs/cgroup"
			files = []string{root + f[2] + "/memory.max", root + "/memory.max"}
		}
		for _, name := range files { // the second: a container sees its own group as the root
			b, err := os.ReadFile(name)
			if err != nil {
				continue
			}
			if n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64); err == nil && n > 0 && n < 1<<50 {
				return n
			}
		}
	}
	return 0
}

// limitMemory has the collector keep the process within its control group, unless GOMEMLIMIT says something.
func limitMemory() {
	if n := cgroupLimit(); n > 0 && os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(n / 10 * 9)
	}
}
