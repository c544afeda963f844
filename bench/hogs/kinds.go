// Package hogs implements hostile peers, which log in and never read, write without end, or never log in. The verb
// hogs measures how much memory a node holds for each of them.
package hogs

import (
	"context"
	"strconv"
	"strings"
	"time"

	"parley/internal/wire"
)

// Class says what kind of data a hog tries to make a node hold.
type Class string

// The classes of hogs.
const (
	SlowReader     Class = "slow_reader"     // bytes for a client that does not read
	FloodingWriter Class = "flooding_writer" // bytes from a client that does not wait for answers
	Stranger       Class = "stranger"        // bytes of a client that has not logged in
)

// Budgets are the bytes that a single peer may make a node hold, including the kernel's buffers on the node's side.
var Budgets = map[Class]int64{SlowReader: 256 << 10, FloodingWriter: 1 << 20, Stranger: 256 << 10}

// Kind is a way to misbehave.
type Kind struct {
	Name  string
	What  string
	Class Class
	For   time.Duration // long enough for the node's timeouts to take effect

	caps   []string // of a native login
	stock  bool     // logs in as a stock client
	fed    bool     // a friend sends it texts
	drains bool     // reads and discards replies
	// write misbehaves after the login, until ctx or the connection ends.
	write func(p *peer, ctx context.Context) error
}

// Kinds are all kinds, in the order in which they are measured.
var Kinds = []Kind{
	{
		Name: "slow_native", Class: SlowReader, For: 12 * time.Second, caps: []string{wire.CapBatch}, fed: true,
		What: "logs in as a native client and never reads, while a friend sends it texts of 4,000 bytes", write: (*peer).idle,
	},
	{
		Name: "slow_gap", Class: SlowReader, For: 12 * time.Second, caps: []string{wire.CapBatch, wire.CapGap}, fed: true,
		What: "the same, as a client that is told of gaps", write: (*peer).idle,
	},
	{
		Name: "slow_stock", Class: SlowReader, For: 12 * time.Second, stock: true, fed: true,
		What: "the same, as a stock client that has read its threads and their history", write: (*peer).idle,
	},
	{
		Name: "flood_heartbeats", Class: FloodingWriter, For: 6 * time.Second, caps: []string{wire.CapBatch},
		What: "writes heartbeats as fast as it can and never reads", write: (*peer).heartbeats,
	},
	{
		Name: "flood_drained", Class: FloodingWriter, For: 6 * time.Second, caps: []string{wire.CapBatch}, drains: true,
		What: "the same, but reads the answers", write: (*peer).heartbeats,
	},
	{
		Name: "flood_texts", Class: FloodingWriter, For: 6 * time.Second, caps: []string{wire.CapBatch},
		What: "writes texts of 4,000 bytes as fast as it can and never reads", write: (*peer).texts,
	},
	{
		Name: "flood_stock", Class: FloodingWriter, For: 6 * time.Second, stock: true,
		What: "the same, as a stock client", write: (*peer).texts,
	},
	{
		Name: "flood_history", Class: FloodingWriter, For: 6 * time.Second, caps: []string{wire.CapBatch},
		What: "asks for its history as fast as it can and never reads", write: (*peer).histories,
	},
	{
		Name: "half_frame", Class: FloodingWriter, For: 4 * time.Second, caps: []string{wire.CapBatch},
		What: "logs in and sends all of a largest frame but its last byte", write: (*peer).halfFrame,
	},
	{
		Name: "bad_length", Class: FloodingWriter, For: 4 * time.Second, caps: []string{wire.CapBatch},
		What: "logs in and sends headers that announce 65,535 bytes, and then those", write: (*peer).badLength,
	},
	{
		Name: "dribble", Class: Stranger, For: 14 * time.Second,
		What: "never logs in: a byte of a first frame ten times per second", write: (*peer).dribble,
	},
}

// Honest returns the well-behaved counterpart of a kind, for comparison: it reads what it is sent and writes nothing.
// It returns false for kinds that are sent nothing.
func (k Kind) Honest() (Kind, bool) {
	k.drains, k.write = true, (*peer).idle
	return k, k.fed
}

// KindOf returns the kind with the given name.
func KindOf(name string) (Kind, bool) {
	for _, k := range Kinds {
		if k.Name == name {
			return k, true
		}
	}
	return Kind{}, false
}

// Names returns the names of Kinds.
func Names() (names []string) {
	for _, k := range Kinds {
		names = append(names, k.Name)
	}
	return names
}

// blockBytes is the size of a flooding writer's writes.
const blockBytes = 64 << 10

// textBytes is the length of a hog's texts, close to the maximum.
const textBytes = 4000

func (p *peer) idle(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// again writes a block repeatedly until a write fails.
func (p *peer) again(ctx context.Context, block []byte) error {
	for ctx.Err() == nil {
		if err := p.put(block); err != nil {
			return err
		}
	}
	return nil
}

func (p *peer) heartbeats(ctx context.Context) error {
	var block []byte
	for len(block) < blockBytes {
		block = wire.AppendHeader(block, wire.MsgHeartbeat, 0)
	}
	return p.again(ctx, block)
}

func (p *peer) histories(ctx context.Context) error {
	body := `{"thread_id":` + strconv.FormatInt(p.thread, 10) + `,"message_id":0,"limit":500}`
	var block []byte
	for len(block) < blockBytes {
		block = append(wire.AppendHeader(block, wire.MsgHistory, len(body)), body...)
	}
	return p.again(ctx, block)
}

func (p *peer) texts(ctx context.Context) error {
	text := strings.Repeat("x", textBytes)
	run := strconv.FormatInt(time.Now().UnixNano(), 36)
	for n := 0; ctx.Err() == nil; {
		var block []byte
		for len(block) < blockBytes {
			n++
			body := `{"fromuid":` + strconv.Itoa(int(p.seat.UID)) + `,"touid":` + strconv.Itoa(int(p.seat.Friend)) +
				`,"thread_id":` + strconv.FormatInt(p.thread, 10) + `,"text_array":[{"unique_id":"hog-` + run + `-` + strconv.Itoa(n) +
				`","content":"` + text + `"}]}`
			block = append(wire.AppendHeader(block, wire.MsgText, len(body)), body...)
		}
		if err := p.put(block); err != nil {
			return err
		}
	}
	return nil
}

func (p *peer) halfFrame(ctx context.Context) error {
	const body = wire.DefaultMaxBody
	frame := append(wire.AppendHeader(nil, wire.MsgText, body), make([]byte, body-1)...)
	if err := p.put(frame); err != nil {
		return err
	}
	return p.idle(ctx)
}

func (p *peer) badLength(ctx context.Context) error {
	return p.again(ctx, append(wire.AppendHeader(nil, wire.MsgText, wire.MaxBody), make([]byte, wire.MaxBody)...))
}

func (p *peer) dribble(ctx context.Context) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	frame := append(wire.AppendHeader(nil, wire.MsgLogin, wire.MaxLoginBody), make([]byte, wire.MaxLoginBody)...)
	for i := 0; i < len(frame)-1; i++ {
		if err := p.put(frame[i : i+1]); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
	return p.idle(ctx)
}
