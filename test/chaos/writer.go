//go:build linux

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"

	"parley/internal/store"
	"parley/internal/store/mysql"
)

// appenderJob is the task of a process of D8, which stores texts as the committers of one node do.
type appenderJob struct {
	DSN, Node, Boot string
	Seed            uint64
	Sender          [appenders]int32
	Thread          [appenders]int64
	From            [appenders]int // the first text of each thread that was not acknowledged
}

// appenders is how many transactions a process of D8 has under way, each in a thread of its own.
const appenders = 4

// beAppender is the main function of a process of D8: it stores texts until it is killed, and prints the number of each when it is
// acknowledged.
func beAppender(ctx context.Context, in io.Reader, stdout, stderr io.Writer) int {
	var job appenderJob
	err := json.NewDecoder(in).Decode(&job)
	if err == nil {
		err = job.run(ctx, stdout)
	}
	fmt.Fprintln(stderr, "appender:", err)
	return exitMiss
}

func (job *appenderJob) run(ctx context.Context, stdout io.Writer) error {
	s, err := mysql.Open(ctx, job.DSN, mysql.Options{})
	if err != nil {
		return err
	}
	defer s.Close()
	if err := s.Prepare(ctx, slog.New(slog.DiscardHandler), store.Demands{}); err != nil {
		return err
	}
	if err := s.Fence.Take(ctx, job.Node, job.Boot); err != nil {
		return err
	}
	access, err := s.Rights.Access(ctx, job.Thread[:])
	if err != nil {
		return err
	}
	var mu sync.Mutex // guards stdout
	say := func(lines string) {
		mu.Lock()
		defer mu.Unlock()
		_, _ = io.WriteString(stdout, lines) // the parent reads until the end
	}
	say("ready\n")
	return each(appenders, appenders, func(i int) error {
		rng := rand.New(rand.NewPCG(job.Seed, uint64(i)))
		for next := job.From[i]; ; {
			// Transactions of both kinds: texts alone, which one call stores and commits, and batches, which take several statements.
			n := 1
			if rng.IntN(2) == 0 {
				n = 2 + rng.IntN(30)
			}
			msgs, out := make([]store.NewMessage, n), make([]store.Appended, n)
			for j := range msgs {
				msgs[j] = store.NewMessage{
					ThreadID: job.Thread[i], Sender: job.Sender[i], MemberVer: access[job.Thread[i]].Ver,
					UniqueID: fmt.Sprintf("%d-%d", i, next+j), Content: "It's \"text\"; -- " + strconv.Itoa(next+j),
				}
			}
			if err := s.Messages.Append(ctx, job.Node, job.Boot, msgs, out); err != nil {
				return err
			}
			var acks strings.Builder
			for j, a := range out {
				if a.Err != nil {
					return a.Err
				}
				fmt.Fprintln(&acks, i, next+j, a.Seq, a.Resent)
			}
			say(acks.String())
			next += n
		}
	})
}

// killWriters implements bar D8.
func killWriters(ctx context.Context, w *World, r *Report) error {
	l, err := w.Start(ctx, Layout{Chat: 1})
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	first, threads, err := l.pairs(ctx, appenders)
	if err != nil {
		return err
	}
	job := appenderJob{DSN: l.DSN(), Node: "writer"}
	for i := range appenders {
		job.Sender[i], job.Thread[i] = first+int32(2*i), threads[i]
	}
	acked := make([][]int64, appenders) // the number of each text
	var texts, found int64
	kills := w.N(1000, 12)
	for kill := range kills {
		job.Boot, job.Seed = fmt.Sprint("life-", kill), w.Rand.Uint64()
		for i := range acked {
			job.From[i] = len(acked[i])
		}
		log, err := killedAfter(ctx, self, job, time.Duration(w.Rand.IntN(20_000))*time.Microsecond)
		if err != nil {
			return err
		}
		for line := range strings.Lines(log) {
			var i, text int
			var seq int64
			var resent bool
			if n, _ := fmt.Sscan(line, &i, &text, &seq, &resent); n < 4 || !strings.HasSuffix(line, "\n") {
				continue // "ready", or cut off by the kill
			}
			if text != len(acked[i]) {
				return fmt.Errorf("text %d of thread %d was acknowledged after %d others", text, i, len(acked[i]))
			}
			acked[i] = append(acked[i], seq)
			texts++
			if resent {
				found++
			}
		}
	}
	r.Note("processes killed", kills)
	r.Note("texts acknowledged", texts)
	r.Note("texts stored, but not acknowledged, by a process that was killed", found)
	var lost, doubled, wrong int64
	for i, thread := range threads {
		stored, holes, err := l.numbers(ctx, thread, fmt.Sprintf("%d-", i))
		if err != nil {
			return err
		}
		wrong += holes
		for text, seq := range acked[i] {
			at := stored[text]
			switch {
			case len(at) == 0:
				lost++
			case len(at) > 1:
				doubled++
			case at[0] != seq:
				wrong++
			}
		}
		for _, at := range stored { // also those that nobody acknowledged
			if len(at) > 1 {
				doubled++
			}
		}
	}
	r.Zero("acknowledged texts lost", lost)
	r.Zero("texts doubled", doubled)
	r.Zero("under another number, or a hole in a thread", wrong)
	r.Is("kills fell between COMMIT and acknowledgement", found > 0 || w.Short, found)
	return nil
}

// numbers returns the numbers under which each text of a thread is stored, and how many rows are not where a dense thread of
// one sender's texts in order has them, or have another content.
func (l *Lab) numbers(ctx context.Context, thread int64, prefix string) (stored map[int][]int64, wrong int64, err error) {
	stored = make(map[int][]int64)
	want := int64(1)
	for {
		msgs, more, err := l.store.Messages.History(ctx, thread, want-1, 500, 1<<20)
		if err != nil {
			return nil, 0, err
		}
		for _, m := range msgs {
			text, err := strconv.Atoi(strings.TrimPrefix(m.UniqueID, prefix))
			if err != nil || m.Seq != want || int64(text) != want-1 || !strings.HasSuffix(m.Content, "; -- "+strconv.Itoa(text)) {
				wrong++
			}
			stored[text] = append(stored[text], m.Seq)
			want = m.Seq + 1
		}
		if !more {
			break
		}
	}
	var last int64
	if err := l.db.QueryRowContext(ctx, "SELECT last_seq FROM chat_thread WHERE id=?", thread).Scan(&last); err != nil {
		return nil, 0, err
	}
	if last != want-1 {
		wrong++
	}
	return stored, wrong, nil
}

// killedAfter runs a process of D8, kills it some time after it began to store texts, and returns what it printed.
func killedAfter(ctx context.Context, self string, job appenderJob, wait time.Duration) (printed string, err error) {
	in, err := json.Marshal(job)
	if err != nil {
		return "", err
	}
	var stderr strings.Builder
	p := exec.CommandContext(ctx, self, "--appender")
	p.Stdin, p.Stderr = strings.NewReader(string(in)), &stderr
	out, err := p.StdoutPipe()
	if err != nil {
		return "", err
	}
	if err := p.Start(); err != nil {
		return "", err
	}
	lines := bufio.NewReader(out)
	ready, err := lines.ReadString('\n')
	if err == nil {
		kill := time.AfterFunc(wait, func() { _ = p.Process.Kill() }) // Wait says how it ended
		defer kill.Stop()
	}
	rest, readErr := io.ReadAll(lines)
	var ended *exec.ExitError
	if waitErr := p.Wait(); !errors.As(waitErr, &ended) || ended.Exited() {
		return "", fmt.Errorf("a process that stores texts ended by itself: %w: %s", waitErr, stderr.String())
	}
	return ready + string(rest), errors.Join(err, readErr)
}
