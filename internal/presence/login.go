package presence

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"parley/internal/batch"
)

// Logins are the steps of a login in Redis.
type Logins struct {
	*conn
	leases   *Leases
	sessions *Sessions
}

// Prelogin is what a login reads before it changes anything.
type Prelogin struct {
	TokenOK      bool   // a hint; Claim decides
	Profile      []byte // as given to Cache.PutProfile; nil when not cached
	Lists        []byte // as given to Cache.PutLists; nil when not cached or out of date
	ListsVersion int64  // read before the lists are loaded, to be passed to Cache.PutLists
}

// Prelogin checks a token without using it and reads the user's caches. Concurrent calls share round trips.
func (ls *Logins) Prelogin(ctx context.Context, uid int32, token string) (Prelogin, error) {
	return ls.prelogin(ctx, Claim{UID: uid, Token: token})
}

// PreloginResume is Prelogin for a client that presents a resume ticket.
func (ls *Logins) PreloginResume(ctx context.Context, uid int32, device, ticket string) (Prelogin, error) {
	return ls.prelogin(ctx, Claim{UID: uid, Device: device, Token: ticket, Resume: true})
}

func (ls *Logins) prelogin(ctx context.Context, c Claim) (Prelogin, error) {
	out, err := ls.peek(ctx, c)
	if err != nil && !errors.Is(err, ErrTokenInvalid) {
		return Prelogin{}, failed("prelogin", err)
	}
	ls.metrics.countCaches(&out)
	return out.known, nil
}

// peek runs a claim in a mode that changes nothing.
func (ls *Logins) peek(ctx context.Context, c Claim) (claimReply, error) {
	c.SID, c.Node, c.Boot = "-", "-", "-"
	return ls.claim(ctx, c, modePeek)
}

// countCaches counts which caches a login found.
func (m *metrics) countCaches(out *claimReply) {
	if out.known.Profile != nil {
		m.profileHit.Inc()
	} else {
		m.profileMiss.Inc()
	}
	switch {
	case out.known.Lists != nil:
		m.listsHit.Inc()
	case out.stale:
		m.listsStale.Inc()
	default:
		m.listsMiss.Inc()
	}
}

// A Claim asks for a user's place on a device.
type Claim struct {
	UID    int32
	Device string // "" for stock clients
	Token  string // login token, or resume ticket if Resume
	// SID names the session. It must be new, because a repeated claim is recognised by it.
	SID        string
	Node, Boot string // of the calling node
	Resume     bool
	// NextResume is the ticket to accept at the next reconnect of this device; "" for none. The presented ticket of a
	// resume stays valid until the new one is used, in case the answer does not reach the client.
	NextResume string
}

// Claimed is the result of a granted Claim.
type Claimed struct {
	Old    *Location  // the replaced session of the same device; nil if there was none
	Others []Location // the user's sessions on other devices, not checked against leases
	// ListsVersion is the version at the moment of the claim. Later changes are pushed, because from then on the
	// session can be found.
	ListsVersion int64
}

// Claim uses up a token or ticket and gives the session its device's place, in one atomic step. The granted claims of
// a device form a chain: Old is always the session of the claim before.
//
// On ErrTokenInvalid, ErrTooManyDevices, ErrBusy and ErrClosed nothing has changed, nor if ctx ends while the claim
// is queued. Once the claim is on its way to Redis, Claim waits for the reply even if ctx ends, for at most
// Options.Timeout, because its outcome must be known. After any other error the claim may have been granted: the
// caller must not use the token or SID again, and must release the SID (see Sessions.Release).
//
// Concurrent calls share round trips.
func (ls *Logins) Claim(ctx context.Context, c Claim) (Claimed, error) {
	out, err := ls.claimCounted(ctx, c, modeClaim)
	return out.claimed, err
}

// ClaimCached is like Claim for a user whose caches are complete and up to date, and also returns the caches: all
// that a login needs, in one round trip. Otherwise it claims nothing and returns what it found, as Prelogin does, and
// nil.
func (ls *Logins) ClaimCached(ctx context.Context, c Claim) (Prelogin, *Claimed, error) {
	out, err := ls.claimCounted(ctx, c, modeWarm)
	if err != nil {
		return Prelogin{}, nil, err
	}
	ls.metrics.countCaches(&out)
	if !out.granted {
		return out.known, nil, nil
	}
	return out.known, &out.claimed, nil
}

// claimMode tells claim.lua what to do.
type claimMode string

const (
	modePeek  claimMode = "peek"  // only read
	modeWarm  claimMode = "warm"  // claim if everything is cached
	modeClaim claimMode = "claim" // claim
)

// claimReply is the reply of claim.lua.
type claimReply struct {
	known   Prelogin
	stale   bool // the lists are cached under another version
	granted bool
	claimed Claimed
}

// claimCounted makes a claim and counts its outcome. If the user has too many devices, it removes those of dead nodes
// and tries once more; that is safe because the refused claim changed nothing.
func (ls *Logins) claimCounted(ctx context.Context, c Claim, mode claimMode) (claimReply, error) {
	out, err := ls.claim(ctx, c, mode)
	if errors.Is(err, ErrTooManyDevices) {
		// Entries of dead nodes do not count towards the limit. They are rare, so they are looked for only here.
		var pruned bool
		if pruned, err = ls.prune(ctx, out.claimed.Others); pruned && err == nil {
			out, err = ls.claim(ctx, c, mode)
		} else if err == nil {
			err = ErrTooManyDevices
		}
	}
	switch {
	case err == nil:
		if out.granted {
			ls.metrics.claimOK.Inc()
		}
		return out, nil
	case errors.Is(err, ErrTokenInvalid):
		ls.metrics.claimRefused.Inc()
	case errors.Is(err, ErrTooManyDevices):
		ls.metrics.claimDevices.Inc()
	default:
		ls.metrics.claimFailed.Inc()
	}
	return claimReply{}, failed("claim", err)
}

// claim runs claim.lua. A claim that may change something waits for its reply even if ctx ends; see Claim.
func (ls *Logins) claim(ctx context.Context, c Claim, mode claimMode) (claimReply, error) {
	j := &claimJob{keys: ls.keys, claim: c, mode: mode}
	j.mine = Location{UID: c.UID, Device: c.Device, SID: c.SID, Node: c.Node, Boot: c.Boot}
	if err := j.mine.check(); err != nil {
		return claimReply{}, err
	}
	err := ls.commands.do(ctx, j, mode != modePeek)
	return j.out, err
}

// prune removes the sessions of dead nodes and reports whether there were any.
func (ls *Logins) prune(ctx context.Context, locs []Location) (bool, error) {
	names := make([]string, len(locs))
	for i, l := range locs {
		names[i] = l.Node
	}
	leases, err := ls.leases.read(ctx, names)
	if err != nil {
		return false, err
	}
	var dead []Location
	for i, l := range locs {
		if leases[i] == nil || leases[i].Boot != l.Boot {
			dead = append(dead, l)
		}
	}
	return len(dead) > 0, ls.sessions.Release(ctx, dead)
}

type claimJob struct {
	batch.Part
	keys  keys
	claim Claim
	mode  claimMode
	mine  Location
	cmd   *redis.Cmd
	out   claimReply
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
		next, seconds(ResumeTTL), replayWindow.Milliseconds(), MaxDevices, string(j.mode))
}

// claimKeys returns the keys of claim.lua in its order. All carry the user's hash tag and so share a slot.
func claimKeys(k keys, c *Claim, presented string) []string {
	resume := k.resume(c.UID, c.Device)
	ticket := resume
	if !c.Resume {
		ticket = k.token(c.UID, presented)
	}
	return []string{
		ticket, k.tokenMin(c.UID), k.session(c.UID), k.nodeOf(c.UID), resume,
		k.listsVersion(c.UID), k.profile(c.UID), k.lists(c.UID),
	}
}

// Status codes of claim.lua, and the number of fixed elements in its reply.
const (
	claimRefused, claimGranted, claimDevices, claimGood = 0, 1, 2, 3

	claimFixed = 5
)

// finish parses the reply of claim.lua: a status, the replaced session, the version of the lists, the two caches, and
// pairs of device and session for the user's other devices.
func (j *claimJob) finish() error {
	reply, err := j.cmd.Slice()
	if err != nil {
		return err
	}
	if len(reply) == 0 {
		return errors.New("empty reply")
	}
	status, _ := reply[0].(int64)
	if status == claimRefused && len(reply) == 1 {
		return ErrTokenInvalid
	}
	if len(reply) < claimFixed || (len(reply)-claimFixed)%2 != 0 {
		return fmt.Errorf("reply of %d elements", len(reply))
	}
	text := func(i int) string { s, _ := reply[i].(string); return s }
	known, old := &j.out.known, &j.out.claimed
	known.TokenOK, j.out.granted = status != claimRefused, status == claimGranted
	known.ListsVersion, _ = strconv.ParseInt(text(2), 10, 64) // if malformed 0, which matches no cached lists
	old.ListsVersion = known.ListsVersion
	if s := text(3); s != "" {
		known.Profile = []byte(s)
	}
	if version, data, ok := strings.Cut(text(4), "\n"); ok {
		if version == strconv.FormatInt(known.ListsVersion, 10) {
			known.Lists = []byte(data)
		} else {
			j.out.stale = true
		}
	}
	if l, ok := parseLocation(j.claim.UID, j.claim.Device, text(1)); ok {
		old.Old = &l
	}
	for i := claimFixed; i < len(reply); i += 2 {
		if l, ok := parseLocation(j.claim.UID, text(i), text(i+1)); ok {
			old.Others = append(old.Others, l)
		}
	}
	switch status {
	case claimRefused:
		return ErrTokenInvalid
	case claimDevices:
		return ErrTooManyDevices
	}
	return nil
}
