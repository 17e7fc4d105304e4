package bench

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// tick is the unit of times in /proc: USER_HZ is 100 on every Linux that Go runs on.
const tick = 10 * time.Millisecond

// tree lists pid and the processes below it that are alive.
func tree(pid int) []int {
	all := []int{pid}
	for i := 0; i < len(all); i++ {
		lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", all[i]))
		for _, l := range lists {
			b, _ := os.ReadFile(l) // gone is gone
			for f := range strings.FieldsSeq(string(b)) {
				if n, err := strconv.Atoi(f); err == nil {
					all = append(all, n)
				}
			}
		}
	}
	return all
}

// cpuTime is what pid and everything below it has used, ended children included. A child that has not been
// waited for is counted by itself, and by its parent's sum from then on.
func cpuTime(pid int) (time.Duration, error) {
	var ticks int64
	var exact time.Duration
	for i, p := range tree(pid) {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p))
		if err != nil {
			if i == 0 {
				return 0, err
			}
			continue
		}
		// The name in parentheses may hold anything; field 3 follows it.
		f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
		if len(f) < 15 {
			return 0, errors.New("bench: /proc/PID/stat has too few fields")
		}
		from := 11 // utime, stime, cutime, cstime: fields 14 to 17
		if t, ok := processClock(p); ok {
			exact += t
			from = 13
		}
		for _, s := range f[from:15] {
			n, _ := strconv.ParseInt(s, 10, 64)
			ticks += n
		}
	}
	return exact + time.Duration(ticks)*tick, nil
}

// ownTime is what this process has used, its children left out.
func ownTime() time.Duration {
	t, _ := processClock(os.Getpid())
	return t
}

// kib reads "name:   123 kB" from a file of /proc.
func kib(file, name string) int64 {
	b, _ := os.ReadFile(file)
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			if f := strings.Fields(rest); len(f) > 0 {
				n, _ := strconv.ParseInt(f[0], 10, 64)
				return n
			}
		}
	}
	return 0
}

// Usage is what a process tree holds.
type Usage struct {
	RSS       int64 `json:"rss"` // bytes; a page that processes share counts for each
	PSS       int64 `json:"pss"` // bytes; a shared page counts once
	Processes int   `json:"processes"`
	Threads   int   `json:"threads"`
	FDs       int   `json:"fds"`
}

func usageOf(pid int) Usage {
	var u Usage
	for _, p := range tree(pid) {
		dir := fmt.Sprintf("/proc/%d/", p)
		u.Processes++
		u.RSS += kib(dir+"smaps_rollup", "Rss") << 10
		u.PSS += kib(dir+"smaps_rollup", "Pss") << 10
		u.Threads += int(kib(dir+"status", "Threads"))
		e, _ := os.ReadDir(dir + "fd")
		u.FDs += len(e)
	}
	return u
}

// peak follows the high-water mark of resident memory (VmHWM) of a tree.
type peak struct {
	stop chan struct{}
	done sync.WaitGroup
	seen map[int]int64 // bytes by process; owned by the goroutine until done
}

func watchPeak(pid int) *peak {
	for _, p := range tree(pid) {
		os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", p), []byte("5"), 0) // the mark starts anew
	}
	w := &peak{stop: make(chan struct{}), seen: map[int]int64{}}
	look := func() {
		for _, p := range tree(pid) {
			if n := kib(fmt.Sprintf("/proc/%d/status", p), "VmHWM") << 10; n > 0 {
				w.seen[p] = n
			}
		}
	}
	w.done.Go(func() { // ends with stop, which end closes
		t := time.NewTicker(100 * time.Millisecond)
		defer t.Stop()
		for {
			look()
			select {
			case <-t.C:
			case <-w.stop:
				look()
				return
			}
		}
	})
	return w
}

// end gives the sum over all processes that were seen.
func (w *peak) end() int64 {
	close(w.stop)
	w.done.Wait()
	var sum int64
	for _, n := range w.seen {
		sum += n
	}
	return sum
}

// load is the machine's load average over the last minute, and how many processes run now.
func load() string {
	b, _ := os.ReadFile("/proc/loadavg")
	f := strings.Fields(string(b))
	if len(f) < 4 {
		return "unknown"
	}
	return f[0] + " " + f[3]
}

// busy is the processor time that the whole machine has used so far, and all there was.
func busy() (used, total time.Duration) {
	b, _ := os.ReadFile("/proc/stat")
	line, _, _ := strings.Cut(string(b), "\n")
	for i, f := range strings.Fields(line) {
		if i == 0 || i > 8 { // guest time is in user time already
			continue
		}
		n, _ := strconv.ParseInt(f, 10, 64)
		total += time.Duration(n) * tick
		if i != 4 && i != 5 { // idle, iowait
			used += time.Duration(n) * tick
		}
	}
	return used, total
}
