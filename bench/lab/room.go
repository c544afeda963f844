package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"parley/bench/floor"
	"parley/bench/local"
	"parley/bench/swarm"
	"parley/bench/watch"
	"parley/internal/wire"
)

// RoomFlags are the flags of texts to groups.
type RoomFlags struct {
	LoadFlags `embed:""`
	Groups    int     `help:"number of groups" default:"1"`
	Members   int     `help:"members of each group, 2 to 10000" default:"1000" short:"n"`
	Online    float64 `help:"share of the members who are online, above 0 to 1" default:"1"`
	Senders   int     `help:"members of each group who write; a user may send 50 texts per second" default:"16"`
	Remove    float64 `help:"share of the online members who are removed, one by one, from the middle of the load on, 0 to 0.9" default:"0"`
	Size      int     `help:"size of a text in bytes, 72 to 4096" default:"100"`
	Floor     bool    `help:"also measure a bare loop that writes frames of the same size to as many sockets, group by group" default:"true" negatable:""`
	NoVerify  bool    `help:"do not read the history back"`
}

// roomRate is the default rate, in texts per second over all groups.
const roomRate = 50

func (f RoomFlags) check(o Options) error {
	rooms := f.rooms()
	switch {
	case f.Groups < 1 || f.Members < 2 || f.Members > 10000:
		return errors.New("--groups must be at least 1 and --members 2 to 10000")
	case !(f.Online > 0 && f.Online <= 1) || rooms.Online < 2:
		return errors.New("--online must be above 0 and at most 1, and two members of a group or more must be online")
	case f.Senders < 1:
		return errors.New("--senders must be at least 1")
	case !(f.Remove >= 0 && f.Remove <= .9):
		return errors.New("--remove must be 0 to 0.9")
	case f.Size < 72 || f.Size > 4096:
		return errors.New("--size must be 72 to 4096")
	case o.Users != 0:
		return errors.New("room counts its users by --groups and --members, not by --users")
	case max(o.Workers, len(o.Agents)) > f.Groups:
		return errors.New("a group's users are in one generator process: there must be a group for each")
	}
	return f.LoadFlags.check(roomRate)
}

func (f RoomFlags) rooms() swarm.Rooms {
	online := int(float64(f.Members)*f.Online + .5)
	return swarm.Rooms{Members: f.Members, Online: online, Senders: min(f.Senders, online)}
}

// Room measures texts to groups, checks each member's copy of each text, and compares with a bare loop of writes.
func (l Lab) Room(ctx context.Context, o Options, f RoomFlags) int {
	if err := f.check(o); err != nil {
		return l.refuse(err)
	}
	v := verb{
		name: "room", what: "texts to groups: stored, acknowledged, delivered to each member who is online", users: f.Groups * f.Members,
		cross: 1, text: f.Size, rooms: f.rooms(),
	}
	v.users += v.users % 2 // users are seeded in pairs
	if f.Floor {
		v.beside = f.Groups * v.rooms.Online
	}
	v.do = func(ctx context.Context, whole *run) error {
		p, err := f.phase("chat", roomRate, whole.Seed)
		if err != nil {
			return setupError(err)
		}
		if p.Remove = f.Remove; whole.tolerate {
			p.Patience = 30 * time.Second
		}
		r := &roomRun{run: whole, f: f, p: p}
		if err := r.gather(ctx); err != nil {
			return err
		}
		if err := r.load(ctx); err != nil {
			return err
		}
		if !f.NoVerify {
			if err := r.verify(ctx); err != nil {
				return err
			}
		}
		if f.Floor {
			return r.fanFloor(ctx)
		}
		return nil
	}
	return execute(ctx, l.options(o), v)
}

// seedRooms makes the groups, or circles of friends, in SQL where that is known: to have each member join takes two
// frames and a login.
func (r *run) seedRooms(ctx context.Context) (err error) {
	rooms := &r.verb.rooms
	if rooms.Members == 0 || r.db == nil {
		return nil
	}
	began, groups := time.Now(), r.verb.users/rooms.Members
	if rooms.Watch {
		r.screen.say(fmt.Sprintf("seeding %d circles of %d friends", groups, rooms.Members))
		if err = r.db.Circles(ctx, r.FirstUID, groups, rooms.Members); err == nil {
			r.stageDone("friends", began, "seeded")
		}
		return err
	}
	r.screen.say(fmt.Sprintf("seeding %d groups of %d", groups, rooms.Members))
	if rooms.Threads, err = r.db.Groups(ctx, r.FirstUID, groups, rooms.Members); err == nil {
		r.stageDone("groups", began, "seeded")
	}
	return err
}

// roomRun is a run of texts to groups.
type roomRun struct {
	*run
	f RoomFlags
	p swarm.Phase

	// Of the load.
	frame int     // average bytes of a pushed frame
	cost  float64 // the nodes' CPU per delivery in µs, or 0 if that is unknown
}

// gather creates the groups, unless they are seeded, and logs in the users that are to be online.
func (r *roomRun) gather(ctx context.Context) error {
	rooms, groups := r.verb.rooms, r.f.Groups
	if rooms.Threads != nil {
		return r.logInSome(ctx, groups*rooms.Online)
	}
	if _, err := r.phase(ctx, step{name: "groups", Phase: swarm.Phase{Kind: "found", Concurrency: 16}, main: swarm.HFull}); err != nil {
		return err
	}
	out, err := r.phase(ctx, step{name: "join", Phase: swarm.Phase{Kind: "join", Concurrency: 64}, main: swarm.HFull})
	if err != nil {
		return err
	}
	if want := groups * (rooms.Members - 1); int(out.Counters["joined"]) < want {
		return fmt.Errorf("only %d of %d users could join their groups", out.Counters["joined"], want)
	}
	return r.logInSome(ctx, groups*rooms.Online)
}

// load runs the load and reports the result.
func (r *roomRun) load(ctx context.Context) error {
	f, p := &r.f, r.p
	before, known := r.nodesCPU()
	out, err := r.phase(ctx, step{name: "room", Phase: p, main: swarm.HAck, measured: true, faults: true})
	if err != nil {
		return err
	}
	after, _ := r.nodesCPU()
	h, copies := out.Hist(swarm.HDeliver), float64(max(out.Counters["copies"], 1))
	r.frame = int(out.Counters["frame bytes"] / max(out.Counters["frames"], 1))
	deliveries := float64(h.Count()) / f.For.Seconds()
	r.rep.Figures["deliveries"] = deliveries
	r.headline("texts stored", fmt.Sprintf("%.0f/s", r.rep.Figures["rate"]), offeredNote(p))
	r.headline("deliveries", fmt.Sprintf("%.0f/s", deliveries), fmt.Sprintf("to %d online members of each of %d groups", r.verb.rooms.Online, f.Groups))
	r.latencyLine("stored", out.Hist(swarm.HAck))
	r.latencyLine("delivered to the first member", out.Hist(swarm.HFirst))
	r.latencyLine("delivered to the last member", out.Hist(swarm.HLast))
	if known {
		r.cost = (after - before) * 1e6 / copies
		r.rep.Figures["delivery_cpu"] = r.cost / 1e6
		r.headline("nodes' CPU for a delivery", fmt.Sprintf("%.2f µs", r.cost),
			fmt.Sprintf("texts received, stored and delivered; %.0f deliveries, %.1f in a frame, frames of %d bytes on average", copies, copies/float64(max(out.Counters["frames"], 1)), r.frame))
	}
	if n := out.Counters["removed"]; f.Remove > 0 {
		r.rep.Figures["removed"] = float64(n)
		r.headline("members removed", fmt.Sprint(n), "from the middle of the load on")
	}
	if n := out.Ledger.Gaps - out.Counters["removed"]; n > 0 { // a removed member is told to read the rest
		r.rep.Notes = append(r.rep.Notes, fmt.Sprintf("%d gap notices: members could not take all pushes, and were told to read the history", n))
	}
	return nil
}

// nodesCPU adds up the processor seconds of the chat nodes, if this tool started them.
func (r *run) nodesCPU() (sum float64, known bool) {
	if r.layout == nil {
		return 0, false
	}
	for _, n := range r.layout.Nodes {
		if strings.HasPrefix(n.Name, "chat") || n.Name == "standalone" {
			used, _, ok := watch.Process(n.Proc.Pid())
			sum, known = sum+used, known || ok
		}
	}
	return sum, known
}

// fanFloor offers the same load of frames to bare servers, as many as there are nodes, which write each to as many sockets
// as a group has members online, and have as many as all groups together.
func (r *roomRun) fanFloor(ctx context.Context) error {
	f, p := &r.f, r.p
	dir, err := os.MkdirTemp("", "parley-floor-")
	if err != nil {
		return setupError(err)
	}
	defer os.RemoveAll(dir)
	members, s := r.verb.rooms.Online, r.spec()
	s.Transport, s.Users, s.Rooms, s.Loops = wire.TCP, f.Groups*members, swarm.Rooms{Members: members, Online: members}, 1
	s.FirstUID = int32(members) // the servers see from a uid which group it is in
	s.Cross, s.KeepTo = -1, 0   // a group is at one server
	var procs []*local.Process
	used := func() (sum float64) {
		for _, p := range procs {
			cpu, _, _ := watch.Process(p.Pid())
			sum += cpu
		}
		return sum
	}
	for i := range min(max(len(r.crew.Nodes()), 1), f.Groups) {
		name := fmt.Sprintf("floor%d", i+1)
		proc, addr, err := startFloor(ctx, dir, name, "--kind", floor.Fan, "--members", fmt.Sprint(members))
		if err != nil {
			return setupError(err)
		}
		defer func() { _ = proc.Kill() }() // nothing else uses it
		procs, s.Fixed = append(procs, proc), append(s.Fixed, addr)
		r.nodes.Add(watch.Watched{Name: name, Pid: proc.Pid})
	}
	c, err := r.generators.crew(ctx, s)
	if err != nil {
		return setupError(err)
	}
	defer c.Close()
	if err := c.Prepare(ctx); err != nil {
		return setupError(err)
	}
	out, err := c.Run(ctx, swarm.Phase{Kind: "login", Concurrency: r.loginsAtOnce()})
	if err == nil && int(out.Counters["logins"]) < s.Users {
		err = fmt.Errorf("only %d of %d users could log in at the bare servers", out.Counters["logins"], s.Users)
	}
	if err != nil {
		return err
	}
	fan := swarm.Phase{Kind: "fan", Load: p.Load, Concurrency: p.Concurrency, For: p.For, Size: r.frame}
	r.screen.say("measuring a bare loop of writes")
	began := time.Now()
	before := used()
	if out, err = c.Run(ctx, fan); err != nil {
		return err
	}
	after := used()
	r.stageDone("floor", began, "")
	writes := out.Counters["frames"]
	rate, each := float64(writes)/max(fan.Load.For, fan.For).Seconds(), (after-before)*1e6/float64(max(writes, 1))
	r.rep.Figures["floor_rate"], r.rep.Figures["floor_cpu"] = rate, each/1e6
	r.headline("a bare loop's writes", fmt.Sprintf("%.0f/s", rate), fmt.Sprintf("frames of %d bytes, each to the sockets of one group, by %d servers with %d sockets in all; %.2f µs of CPU for each", r.frame, len(procs), s.Users, each))
	if r.cost > 0 && each > 0 {
		r.rep.Figures["fanout_ratio"] = r.cost / each
		r.headline("CPU for a delivery, of a bare write", fmt.Sprintf("%.2f ×", r.cost/each), "a frame holds several texts when they are stored together; each of the bare loop's counts as one")
	}
	if p.Concurrency > 0 && rate > 0 {
		r.rep.Figures["rate_ratio"] = r.rep.Figures["deliveries"] / rate
		r.headline("deliveries, of a bare loop's", fmt.Sprintf("%.2f ×", r.rep.Figures["rate_ratio"]), "both closed loops")
	}
	return nil
}
