package presence

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// Prelogin is what a login needs to know before it does anything.
type Prelogin struct {
	TokenOK      bool   // Claim has the last word
	Profile      []byte // as given to PutProfile; nil when not cached
	Lists        []byte // as given to PutLists; nil when not cached or out of date
	ListsVersion int64  // now; read before the lists are loaded, to be given to PutLists with them
}

// Prelogin looks at a token without using it and reads the user's caches, in one command. Concurrent calls share round
// trips.
func (p *Presence) Prelogin(ctx context.Context, uid int32, token string) (Prelogin, error) {
	return p.prelogin(ctx, &preloginJob{job: newJob(), keys: p.keys, uid: uid, ticket: p.keys.token(uid, digest(token))})
}

// PreloginResume is Prelogin for a client that presents a resume ticket.
func (p *Presence) PreloginResume(ctx context.Context, uid int32, device, ticket string) (Prelogin, error) {
	return p.prelogin(ctx, &preloginJob{
		job: newJob(), keys: p.keys, uid: uid, ticket: p.keys.resume(uid, device), resume: digest(ticket),
	})
}

func (p *Presence) prelogin(ctx context.Context, j *preloginJob) (Prelogin, error) {
	if err := p.commands.do(ctx, j, false); err != nil {
		return Prelogin{}, failed("prelogin", err)
	}
	if j.out.Profile != nil {
		p.metrics.profileHit.Inc()
	} else {
		p.metrics.profileMiss.Inc()
	}
	switch {
	case j.out.Lists != nil:
		p.metrics.listsHit.Inc()
	case j.stale:
		p.metrics.listsStale.Inc()
	default:
		p.metrics.listsMiss.Inc()
	}
	return j.out, nil
}

type preloginJob struct {
	job
	keys   keys
	uid    int32
	ticket string // key of the token or the tickets
	resume string // digest of a resume ticket, "" for a token
	cmd    *redis.SliceCmd
	out    Prelogin
	stale  bool
}

func (j *preloginJob) weight() int { return 1 }

func (j *preloginJob) add(ctx context.Context, pipe redis.Pipeliner) {
	k := j.keys
	j.cmd = pipe.MGet(ctx, j.ticket, k.tokenMin(j.uid), k.profile(j.uid), k.listsVersion(j.uid), k.lists(j.uid))
}

func (j *preloginJob) finish() error {
	found, err := j.cmd.Result()
	if err != nil {
		return err
	}
	text := func(i int) string { s, _ := found[i].(string); return s }
	j.out.TokenOK = ticketGood(text(0), text(1), j.resume)
	if s := text(2); s != "" {
		j.out.Profile = []byte(s)
	}
	j.out.ListsVersion, _ = strconv.ParseInt(text(3), 10, 64) // absent or strange: 0, which matches nothing cached later
	if version, data, ok := bytes.Cut([]byte(text(4)), []byte("\n")); ok {
		if string(version) == strconv.FormatInt(j.out.ListsVersion, 10) {
			j.out.Lists = data
		} else {
			j.stale = true
		}
	}
	return nil
}

// ticketGood judges a stored token, or with resume the tickets of a device, as claim.lua does.
func ticketGood(stored, least, resume string) bool {
	f := strings.Fields(stored)
	if len(f) == 0 {
		return false
	}
	issued, err := strconv.ParseInt(f[0], 10, 64)
	if err != nil {
		return false
	}
	if min, err := strconv.ParseInt(least, 10, 64); err == nil && issued <= min {
		return false
	}
	if resume == "" {
		return len(f) == 1 // else it was used
	}
	return len(f) == 6 && slices.Contains(f[3:], resume)
}

// A Claim asks for a user's place on a device.
type Claim struct {
	UID    int32
	Device string // "" for stock clients
	Token  string // login token, or resume ticket if Resume
	// SID names the session. It must be new and random: it is how a resent claim is known for the same.
	SID        string
	Node, Boot string // of the caller
	Resume     bool
	// NextResume is the ticket to accept on the next reconnect of this device; "" for none. When resuming, the ticket
	// presented stays good until the new one is used.
	NextResume string
}

// Claimed is the answer to a Claim that was granted.
type Claimed struct {
	Old    *Location  // the session replaced, of the same device; nil if there was none
	Others []Location // the user's sessions on other devices, not checked against leases
}

// Claim uses up a token or ticket and makes the session the one of its device, in one atomic step. For each device the
// claims granted form a chain: Old of each is the session of the one before, and nobody else's. On ErrTokenInvalid,
// ErrTooManyDevices, ErrBusy and ErrClosed nothing was changed; likewise if ctx ends while the claim waits in the queue.
// Once the claim is on its way to Redis, Claim stays for the answer past the end of ctx, at most Options.Timeout. After any
// other error the claim may or may not have been granted: use neither token nor SID again, and Release the SID.
//
// Concurrent calls share round trips.
func (p *Presence) Claim(ctx context.Context, c Claim) (Claimed, error) {
	out, err := p.claim(ctx, c)
	if errors.Is(err, ErrTooManyDevices) {
		// Entries of dead nodes do not count. They are few and rare enough to be looked for only now.
		var pruned bool
		if pruned, err = p.prune(ctx, out.Others); pruned && err == nil {
			out, err = p.claim(ctx, c)
		} else if err == nil {
			err = ErrTooManyDevices
		}
	}
	switch {
	case err == nil:
		p.metrics.claimOK.Inc()
		return out, nil
	case errors.Is(err, ErrTokenInvalid):
		p.metrics.claimRefused.Inc()
	case errors.Is(err, ErrTooManyDevices):
		p.metrics.claimDevices.Inc()
	default:
		p.metrics.claimFailed.Inc()
	}
	return Claimed{}, failed("claim", err)
}

func (p *Presence) claim(ctx context.Context, c Claim) (Claimed, error) {
	j := &claimJob{job: newJob(), keys: p.keys, claim: c}
	j.mine = Location{UID: c.UID, Device: c.Device, SID: c.SID, Node: c.Node, Boot: c.Boot}
	if err := j.mine.check(); err != nil {
		return Claimed{}, err
	}
	err := p.commands.do(ctx, j, true)
	return j.out, err
}

// prune removes those sessions whose node is dead and tells whether it found any.
func (p *Presence) prune(ctx context.Context, locs []Location) (bool, error) {
	names := make([]string, len(locs))
	for i, l := range locs {
		names[i] = l.Node
	}
	leases, err := p.leases(ctx, names)
	if err != nil {
		return false, err
	}
	var dead []Location
	for i, l := range locs {
		if leases[i] == nil || leases[i].Boot != l.Boot {
			dead = append(dead, l)
		}
	}
	return len(dead) > 0, p.Release(ctx, dead)
}

type claimJob struct {
	job
	keys  keys
	claim Claim
	mine  Location
	cmd   *redis.Cmd
	out   Claimed
}

func (j *claimJob) weight() int { return 1 }

func (j *claimJob) add(ctx context.Context, pipe redis.Pipeliner) {
	c, next, kind := &j.claim, "", "token"
	if c.NextResume != "" {
		next = digest(c.NextResume)
	}
	if c.Resume {
		kind = "resume"
	}
	presented := digest(c.Token)
	j.cmd = pipe.EvalSha(ctx, claimScript.Hash(), claimKeys(j.keys, c, presented),
		kind, presented, c.Device, j.mine.value(), c.Node, seconds(SessionTTL),
		next, seconds(ResumeTTL), replayWindow.Milliseconds(), MaxDevices)
}

func claimKeys(k keys, c *Claim, presented string) []string {
	resume := k.resume(c.UID, c.Device)
	ticket := resume
	if !c.Resume {
		ticket = k.token(c.UID, presented)
	}
	return []string{ticket, k.tokenMin(c.UID), k.session(c.UID), k.nodeOf(c.UID), resume}
}

func (j *claimJob) finish() error {
	reply, err := j.cmd.Slice()
	if err != nil {
		return err
	}
	if len(reply) == 0 {
		return errors.New("empty reply")
	}
	status, _ := reply[0].(int64)
	if status == 0 {
		return ErrTokenInvalid
	}
	text := func(i int) string { s, _ := reply[i].(string); return s }
	if len(reply)%2 != 0 {
		return fmt.Errorf("reply of %d elements", len(reply))
	}
	if old, ok := parseLocation(j.claim.UID, j.claim.Device, text(1)); ok {
		j.out.Old = &old
	}
	for i := 2; i < len(reply); i += 2 {
		if l, ok := parseLocation(j.claim.UID, text(i), text(i+1)); ok {
			j.out.Others = append(j.out.Others, l)
		}
	}
	if status == 2 {
		return ErrTooManyDevices
	}
	return nil
}
