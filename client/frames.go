package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"parley/internal/wire"
)

// writeTimeout bounds one write of everything that was queued; a server that does not read for so long is gone.
const writeTimeout = 10 * time.Second

// partTimeout is how long we wait for a server to close after it said that it would.
const partTimeout = 3 * time.Second

// enqueue queues a request and notes the waiter for its reply. It waits while the queue is full, and while another
// request of the kind is unanswered: replies carry no number, and a refusal may overtake an answer.
func (c *Conn) enqueue(ctx context.Context, id wire.MsgID, body []byte, wait *call) error {
	replyID, _ := id.Reply()
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.err == nil && (c.replies[replyID] != nil || len(c.out) > 0 && len(c.out)+wire.HeaderLen+len(body) > c.opts.QueueBytes) {
		c.waiting = true
		change := c.change
		c.mu.Unlock()
		select {
		case <-change:
		case <-c.closing:
		case <-ctx.Done():
		}
		c.mu.Lock()
		if ctx.Err() != nil {
			return contextError(ctx)
		}
	}
	if c.err != nil {
		return c.err
	}
	c.replies[replyID] = wait
	c.enqueueLocked(id, body)
	if wait != nil {
		c.expectLocked()
	}
	return nil
}

// changedLocked wakes the callers that wait in enqueue.
func (c *Conn) changedLocked() {
	if c.waiting {
		c.waiting = false
		close(c.change)
		c.change = make(chan struct{})
	}
}

// enqueueLocked queues a frame whatever the bound says. body must fit a frame.
func (c *Conn) enqueueLocked(id wire.MsgID, body []byte) {
	c.out = append(wire.AppendHeader(c.out, id, len(body)), body...)
	if !c.writing {
		c.writing = true
		c.flushers.Go(c.flush)
	}
}

// flush writes what is queued until nothing is. It runs only while something is, so an idle connection has one
// goroutine.
func (c *Conn) flush() {
	for {
		c.mu.Lock()
		if c.err != nil || len(c.out) == 0 {
			c.writing = false
			c.mu.Unlock()
			return
		}
		buf := c.out
		c.out, c.spare = c.spare[:0], nil
		c.changedLocked()
		c.mu.Unlock()

		err := c.nc.SetWriteDeadline(time.Now().Add(writeTimeout))
		if err == nil {
			_, err = c.nc.Write(buf)
		}
		if err != nil {
			c.broken(err)
		}
		c.mu.Lock()
		if c.err == nil && cap(buf) <= keepBody {
			c.spare = buf[:0]
		}
		c.mu.Unlock()
	}
}

// broken ends the connection after a network error. The server may have said why it closes, and that frame may still
// be unread; the reader finds it, so a failing write leaves the verdict to it for a moment.
func (c *Conn) broken(err error) {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = ErrTimeout
	} else {
		err = fmt.Errorf("client: connection: %w", err)
	}
	c.mu.Lock()
	if c.parting == nil {
		c.parting = err
	}
	c.mu.Unlock()
	if c.nc.SetReadDeadline(time.Now().Add(partTimeout)) != nil {
		c.fail(err)
		return
	}
	<-c.closing
}

// part notes that the server is about to close, and why.
func (c *Conn) part(err error) {
	c.mu.Lock()
	c.parting = err
	c.mu.Unlock()
	// The only failure is a closed connection, which the next read finds.
	_ = c.nc.SetReadDeadline(time.Now().Add(partTimeout))
}

// errHungUp is an end of the stream between two frames.
var errHungUp = fmt.Errorf("closed by the server: %w", io.EOF)

// read is the connection's goroutine: it passes every frame to its receiver, and cleans up.
func (c *Conn) read() {
	for {
		id, body, err := c.readFrame()
		if err != nil {
			if err == io.EOF {
				err = errHungUp
			}
			c.fail(fmt.Errorf("client: connection: %w", err))
			break
		}
		c.lastRead.Store(reading)
		if err := c.frame(id, body, len(body)+wire.HeaderLen); err != nil {
			c.fail(err)
			break
		}
		c.lastRead.Store(time.Now().UnixNano())
	}
	c.flushers.Wait()
	err := c.Err()
	if c.opts.OnEvent != nil {
		c.opts.OnEvent(Disconnected{Err: err})
	} else {
		c.events.end(Disconnected{Err: err}, err)
	}
	c.rd, c.body = nil, nil
	close(c.done)
}

// frame handles one frame. An error ends the connection.
func (c *Conn) frame(id wire.MsgID, body []byte, frameLen int) error {
	switch id {
	case wire.MsgHeartbeatRsp:
		return nil
	case wire.MsgTextRsp:
		return c.textReply(body, frameLen)
	case wire.MsgTextPush:
		push := new(textBody)
		if wire.Decode(body, push) != nil {
			return fmt.Errorf("%w: message %v", ErrProtocol, id)
		}
		if msgs := push.stored(push.From); len(msgs) > 0 && push.Error == wire.CodeOK {
			return c.emit(Texts{ThreadID: push.ThreadID, Messages: msgs}, frameLen)
		}
		return nil
	case wire.MsgGroupPush, wire.MsgRowPush:
		push := new(wire.GroupPush) // a 2145 has no member_ver
		if wire.Decode(body, push) != nil {
			return fmt.Errorf("%w: message %v", ErrProtocol, id)
		}
		if msgs := messagesOf(push.Chats); len(msgs) > 0 {
			return c.emit(Texts{ThreadID: push.ThreadID, Messages: msgs}, frameLen)
		}
		return nil
	case wire.MsgHiddenPush:
		push := new(wire.HiddenPush)
		if wire.Decode(body, push) != nil || push.ThreadID < 1 {
			return fmt.Errorf("%w: message %v", ErrProtocol, id)
		}
		return c.emit(Hidden{ThreadID: push.ThreadID, IDs: push.MsgIDs}, frameLen)
	case wire.MsgApplied:
		push := new(wire.AppliedPush)
		if wire.Decode(body, push) != nil {
			return fmt.Errorf("%w: message %v", ErrProtocol, id)
		}
		return c.emit(Applied{Application{
			Profile:  Profile{UID: push.ApplyUID, Name: push.Name, Nick: push.Nick, Icon: push.Icon, Sex: push.Sex},
			Greeting: push.Desc,
		}}, frameLen)
	case wire.MsgApproved:
		push := new(wire.ApprovedPush)
		if wire.Decode(body, push) != nil {
			return fmt.Errorf("%w: message %v", ErrProtocol, id)
		}
		return c.emit(Approved{
			Friend:   Profile{UID: push.FromUID, Name: push.Name, Nick: push.Nick, Icon: push.Icon, Sex: push.Sex},
			Messages: messagesOf(push.Chats),
		}, frameLen)
	case wire.MsgReplaced:
		c.part(ErrReplaced)
		return c.emit(Replaced{}, frameLen)
	case wire.MsgGoodbye:
		push := new(wire.Goodbye)
		if wire.Decode(body, push) != nil {
			return fmt.Errorf("%w: message %v", ErrProtocol, id)
		}
		err := &Error{
			Op: "goodbye", Code: Code(push.Error), Reason: push.Reason, To: nextAddr(c.addr, push.To),
			RetryAfter: time.Duration(push.RetryMS) * time.Millisecond,
		}
		c.mu.Lock()
		replaced := c.parting == ErrReplaced
		c.mu.Unlock()
		if !replaced {
			c.part(err)
		}
		return c.emit(Goodbye{Err: err}, frameLen)
	case wire.MsgGap:
		push := new(wire.Gap)
		if wire.Decode(body, push) != nil || push.ThreadID < 0 {
			return fmt.Errorf("%w: message %v", ErrProtocol, id)
		}
		return c.emit(Gap{ThreadID: push.ThreadID, From: push.FromSeq}, frameLen)
	case wire.MsgFriendsChanged:
		push := new(wire.FriendsChangedPush)
		if wire.Decode(body, push) != nil || push.UID < 1 {
			return fmt.Errorf("%w: message %v", ErrProtocol, id)
		}
		return c.emit(FriendsChanged{UID: push.UID, Change: Change(push.Change)}, frameLen)
	case wire.MsgMarkPush:
		push := new(wire.MarkPush)
		if wire.Decode(body, push) != nil {
			return fmt.Errorf("%w: message %v", ErrProtocol, id)
		}
		if len(push.Marks) > 0 {
			return c.emit(MarksMoved{ThreadID: push.ThreadID, Marks: marksOf(push.Marks)}, frameLen)
		}
		return nil
	case wire.MsgWatchRsp:
		c.reply(id, body)
		return c.onlinePush(body, frameLen) // behind what was told of an earlier set
	case wire.MsgOnline:
		return c.onlinePush(body, frameLen)
	case wire.MsgTypingPush:
		return c.typingPush(body, frameLen)
	case wire.MsgLogoutRsp:
		c.loggedOut(body)
		c.reply(id, body)
		return nil
	default:
		// An unexpected or unknown frame is not a fault: newer servers may send more.
		c.reply(id, body)
		return nil
	}
}

func (c *Conn) emit(ev Event, frameLen int) error {
	if c.opts.OnEvent != nil {
		c.opts.OnEvent(ev)
		return nil
	}
	if !c.events.put(ev, frameLen) {
		return ErrSlowConsumer
	}
	return nil
}
