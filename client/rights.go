package client

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"parley/internal/wire"
)

// ErrLoggedOut ends a connection that Logout or LogoutEverywhere was called on. A Session does not reconnect after it.
var ErrLoggedOut = errors.New("client: logged out")

// Blocked is a user that this user has blocked.
type Blocked struct {
	Profile
	Since time.Time
}

// A Change of how this user stands to another.
type Change string

// The changes. A server may send others.
const (
	ChangeUnfriend Change = wire.ChangeUnfriend // no friend any more
	ChangeBlock    Change = wire.ChangeBlock    // no friend any more, and blocked
	ChangeUnblock  Change = wire.ChangeUnblock
)

// FriendsChanged says that another device of this user ended a friendship, blocked or unblocked a user.
type FriendsChanged struct {
	UID    int32
	Change Change
}

func (FriendsChanged) event() {}

// Unfriend ends the friendship with a user, who is not told. The thread stays readable for both; neither can write to it,
// from the moment the server has answered on. It does nothing if the two are no friends.
func (c *Conn) Unfriend(ctx context.Context, uid int32) error {
	return c.request(ctx, "unfriend", wire.MsgUnfriend, wire.OtherRequest{UID: uid}, nil)
}

// Block ends the friendship with a user as Unfriend does, and has the user's applications dropped unseen from now on. The
// user is not told. Blocking again does nothing.
func (c *Conn) Block(ctx context.Context, uid int32) error {
	return c.request(ctx, "block", wire.MsgBlock, wire.OtherRequest{UID: uid}, nil)
}

// Unblock lets a user apply again. It does not bring back what Block ended.
func (c *Conn) Unblock(ctx context.Context, uid int32) error {
	return c.request(ctx, "unblock", wire.MsgUnblock, wire.OtherRequest{UID: uid}, nil)
}

// Blocks iterates over the users whom this user has blocked, by ascending uid, asking for pages as needed. While the server
// refuses for too many requests it waits and asks again, a few times; another error ends it.
func (c *Conn) Blocks(ctx context.Context) iter.Seq2[Blocked, error] {
	return blocks(ctx, c.blocksPage)
}

// blocksPage asks for the blocks above a uid.
func (c *Conn) blocksPage(ctx context.Context, after int32) (wire.BlocksReply, error) {
	var reply wire.BlocksReply
	err := c.request(ctx, "blocks", wire.MsgBlocks, wire.BlocksRequest{After: after, Limit: pageLimit}, &reply)
	if err == nil && reply.LoadMore && reply.LastUID <= after {
		err = fmt.Errorf("blocks: %w: the cursor stands still", ErrProtocol)
	}
	return reply, err
}

func blocks(ctx context.Context, page func(context.Context, int32) (wire.BlocksReply, error)) iter.Seq2[Blocked, error] {
	return func(yield func(Blocked, error) bool) {
		for after := int32(0); ; {
			reply, err := patiently(ctx, func() (wire.BlocksReply, error) { return page(ctx, after) })
			if err != nil {
				yield(Blocked{}, err)
				return
			}
			for _, b := range reply.Blocked {
				if !yield(Blocked{Profile: profileOf(b.Profile), Since: timeOf(b.CreatedMS, "")}, nil) {
					return
				}
			}
			if !reply.LoadMore {
				return
			}
			after = reply.LastUID
		}
	}
}

// Logout ends this connection, and makes the device's resume tickets useless. The connection then closes with ErrLoggedOut.
func (c *Conn) Logout(ctx context.Context) error { return c.logout(ctx, wire.LogoutDevice) }

// LogoutEverywhere ends all connections of this user on all devices, this one included, and makes all tokens and resume
// tickets useless that were given out until now. The others end with ErrReplaced, this one with ErrLoggedOut.
func (c *Conn) LogoutEverywhere(ctx context.Context) error { return c.logout(ctx, wire.LogoutAll) }

func (c *Conn) logout(ctx context.Context, scope string) error {
	return c.request(ctx, "log out", wire.MsgLogout, wire.LogoutRequest{Scope: scope}, nil)
}

// loggedOut notes that the server has done what Logout asks for, and is about to close.
func (c *Conn) loggedOut(body []byte) {
	var reply struct {
		Error wire.Code `json:"error"`
	}
	if wire.Decode(body, &reply) == nil && reply.Error == wire.CodeOK {
		c.part(ErrLoggedOut)
	}
}

// Unfriend ends the friendship with a user; see [Conn.Unfriend].
func (s *Session) Unfriend(ctx context.Context, uid int32) error {
	return s.part(ctx, uid, (*Conn).Unfriend)
}

// Block blocks a user; see [Conn.Block].
func (s *Session) Block(ctx context.Context, uid int32) error { return s.part(ctx, uid, (*Conn).Block) }

// part runs a request after which a user is neither a friend nor an applicant.
func (s *Session) part(ctx context.Context, uid int32, request func(*Conn, context.Context, int32) error) error {
	err := s.do(ctx, func(c *Conn) error { return request(c, ctx, uid) })
	if err == nil {
		s.parted(uid)
	}
	return err
}

func (s *Session) parted(uid int32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.friends, uid)
	delete(s.apps, uid)
}

// Unblock lets a user apply again; see [Conn.Unblock].
func (s *Session) Unblock(ctx context.Context, uid int32) error {
	return s.do(ctx, func(c *Conn) error { return c.Unblock(ctx, uid) })
}

// Blocks iterates over the users whom this user has blocked; see [Conn.Blocks].
func (s *Session) Blocks(ctx context.Context) iter.Seq2[Blocked, error] {
	return blocks(ctx, func(ctx context.Context, after int32) (wire.BlocksReply, error) {
		return ask(ctx, s, func(c *Conn) (wire.BlocksReply, error) { return c.blocksPage(ctx, after) })
	})
}

// Logout ends the session and makes its resume ticket useless; see [Conn.Logout]. Texts not answered yet fail: Flush before
// to have them answered. It waits for a connection while there is none.
func (s *Session) Logout(ctx context.Context) error { return s.logout(ctx, (*Conn).Logout) }

// LogoutEverywhere ends all sessions of this user; see [Conn.LogoutEverywhere].
func (s *Session) LogoutEverywhere(ctx context.Context) error {
	return s.logout(ctx, (*Conn).LogoutEverywhere)
}

func (s *Session) logout(ctx context.Context, request func(*Conn, context.Context) error) error {
	err := s.do(ctx, func(c *Conn) error { return request(c, ctx) })
	if err != nil && !errors.Is(err, ErrLoggedOut) {
		return err
	}
	select {
	case <-s.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
