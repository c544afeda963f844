package client

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"parley/internal/wire"
)

// opSend is the Op of a refused text.
const opSend = "send"

// textBody is 1018 and 1019.
type textBody struct {
	Error    wire.Code   `json:"error"`
	RetryMS  int         `json:"retry_ms"`
	From     int32       `json:"fromuid"`
	ThreadID int64       `json:"thread_id"`
	Texts    []textState `json:"chat_datas"`
}

type textState struct {
	ID        int64     `json:"message_id"`
	UniqueID  string    `json:"unique_id"`
	Content   string    `json:"content"`
	Type      string    `json:"type"`
	Code      wire.Code `json:"code"`
	Status    int32     `json:"status"`
	ChatTime  string    `json:"chat_time"`
	CreatedMS int64     `json:"created_ms"`
}

func (s *textState) refused() bool { return s.Code != wire.CodeOK || s.Status == wire.StatusFailed }

// stored returns the texts that have a place in their thread, as messages of sender.
func (b *textBody) stored(sender int32) []Message {
	var out []Message
	for i := range b.Texts {
		if s := &b.Texts[i]; !s.refused() && s.ID > 0 {
			out = append(out, Message{
				ThreadID: b.ThreadID, ID: s.ID, Sender: sender, UniqueID: s.UniqueID, Text: s.Content,
				Time: timeOf(s.CreatedMS, s.ChatTime), Type: s.Type,
			})
		}
	}
	return out
}

// textCall is one 1017 in flight.
type textCall struct {
	results []Sent
	to      To
	bytes   int // taken from the window
	done    func([]Sent)
}

// elementCost is the maximum size of an element of a 1017 beside its encoded strings, in bytes.
const elementCost = 40

// requestCost is the maximum size of a 1017 beside its elements, in bytes.
const requestCost = 96

// encodedText returns the draft as an element of a 1017, or ErrText.
func encodedText(d Draft) ([]byte, error) {
	if d.Text == "" || len(d.Text) > MaxText || !utf8.ValidString(d.Text) || strings.IndexByte(d.Text, 0) >= 0 {
		return nil, ErrText
	}
	if len(d.UniqueID) > MaxUniqueID || !utf8.ValidString(d.UniqueID) {
		return nil, fmt.Errorf("client: unique id of a text: longer than %d bytes, or not UTF-8", MaxUniqueID)
	}
	if d.Type != "" && !wire.ValidType(d.Type) {
		return nil, fmt.Errorf("client: type of a text: not 1 to %d of [a-z0-9./+-]", MaxType)
	}
	b := make([]byte, 0, len(d.Text)+len(d.UniqueID)+len(d.Type)+elementCost)
	b = wire.AppendString(append(b, `{"content":`...), d.Text)
	b = wire.AppendString(append(b, `,"unique_id":`...), d.UniqueID)
	if d.Type != "" {
		b = wire.AppendString(append(b, `,"type":`...), d.Type)
	}
	b = append(b, '}')
	// Control characters are escaped, six bytes for one.
	if len(b)+requestCost > wire.DefaultMaxBody {
		return nil, ErrText
	}
	return b, nil
}

// batch holds the texts of one 1017.
type batch struct {
	drafts []Draft
	body   []byte // the elements, comma separated
}

// add takes the draft if it fits beside what is there.
func (b *batch) add(d Draft, element []byte, maxTexts int) bool {
	if len(b.drafts) >= maxTexts || len(b.body)+1+len(element)+requestCost > wire.DefaultMaxBody {
		return false
	}
	if len(b.drafts) > 0 {
		b.body = append(b.body, ',')
	}
	b.drafts = append(b.drafts, d)
	b.body = append(b.body, element...)
	return true
}

// maxTexts is how many texts one 1017 may hold on this connection.
func (c *Conn) maxTexts() int { return min(wire.MaxTexts, c.window.texts) }

// postBatch queues b's request without waiting, whatever the write queue's bound: b must have a place in the window,
// which bounds texts more tightly. The place is given back. done gets the results exactly once, on a goroutine of the
// connection, unless an error is returned.
func (c *Conn) postBatch(to To, b *batch, done func([]Sent)) error {
	if to.ThreadID == 0 {
		to.ThreadID = c.threadOf(to.UID)
	}
	body := make([]byte, 0, len(b.body)+requestCost)
	body = strconv.AppendInt(append(body, `{"fromuid":`...), int64(c.welcome.UID), 10)
	body = strconv.AppendInt(append(body, `,"touid":`...), int64(to.UID), 10)
	body = strconv.AppendInt(append(body, `,"thread_id":`...), to.ThreadID, 10)
	body = append(append(append(body, `,"text_array":[`...), b.body...), ']', '}')

	call := &textCall{results: make([]Sent, len(b.drafts)), to: to, bytes: len(b.body), done: done}
	for i, d := range b.drafts {
		call.results[i].UniqueID = d.UniqueID
	}
	if err := c.queueTexts(call, body); err != nil {
		c.window.release(len(b.drafts), len(b.body))
		return err
	}
	return nil
}

func (c *Conn) queueTexts(call *textCall, body []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return c.err
	}
	for i := range call.results {
		if _, taken := c.texts[call.results[i].UniqueID]; taken {
			for _, r := range call.results[:i] {
				delete(c.texts, r.UniqueID)
			}
			return ErrInFlight
		}
		c.texts[call.results[i].UniqueID] = call
	}
	c.enqueueLocked(wire.MsgText, body)
	c.expectLocked()
	return nil
}

// textReply handles a 1018.
func (c *Conn) textReply(body []byte, frameLen int) error {
	reply := new(textBody)
	if wire.Decode(body, reply) != nil {
		return fmt.Errorf("%w: message %v", ErrProtocol, wire.MsgTextRsp)
	}
	if len(reply.Texts) == 0 {
		if reply.Error != wire.CodeOK {
			c.refuseTexts(refusal(reply.Error, reply.RetryMS))
		}
		return nil
	}
	c.mu.Lock()
	call := c.texts[reply.Texts[0].UniqueID]
	if call != nil {
		for i := range call.results {
			delete(c.texts, call.results[i].UniqueID)
		}
	}
	c.mu.Unlock()
	if call == nil {
		return nil
	}
	call.settle(reply)
	if call.to.ThreadID == 0 && reply.Texts[0].ID > 0 {
		c.noteThread(call.to.UID, reply.ThreadID)
	}
	c.window.release(len(call.results), call.bytes)
	var err error
	if c.echo {
		if msgs := reply.stored(c.welcome.UID); len(msgs) > 0 {
			err = c.emit(Texts{ThreadID: reply.ThreadID, Messages: msgs}, frameLen)
		}
	}
	call.done(call.results) // whatever comes of the connection: it does not know this call any more
	return err
}

// settle fills the results from the reply. Elements come in the order of the request; they are found by their id all
// the same.
func (t *textCall) settle(reply *textBody) {
	for i := range t.results {
		r := &t.results[i]
		var s *textState
		if i < len(reply.Texts) && reply.Texts[i].UniqueID == r.UniqueID {
			s = &reply.Texts[i]
		} else {
			for j := range reply.Texts {
				if reply.Texts[j].UniqueID == r.UniqueID {
					s = &reply.Texts[j]
					break
				}
			}
		}
		switch {
		case s == nil:
			r.Err = fmt.Errorf("send: %w: the answer leaves a text out", ErrProtocol)
		case s.refused():
			r.Err = refusal(s.Code, reply.RetryMS)
		default:
			r.ThreadID, r.MessageID, r.Time = reply.ThreadID, s.ID, timeOf(s.CreatedMS, s.ChatTime)
		}
	}
}

// refusal is the error of a refused element. A server that gives no code means no more than "failed".
func refusal(code wire.Code, retryMS int) error {
	if code == wire.CodeOK {
		code = wire.CodeInternal
	}
	return &Error{Op: opSend, Code: Code(code), RetryAfter: time.Duration(retryMS) * time.Millisecond}
}

// refuseTexts handles a 1018 that names no text. Refusals may overtake answers, so it could be about any: all in flight
// get the error. Those that are stored all the same are recognised when they are sent again.
func (c *Conn) refuseTexts(err error) {
	c.mu.Lock()
	texts := c.texts
	c.texts = make(map[string]*textCall)
	c.mu.Unlock()
	for call := range distinct(texts) {
		c.window.release(len(call.results), call.bytes)
	}
	failTexts(texts, err)
}

// failTexts tells every call of the map that its outcome is err.
func failTexts(texts map[string]*textCall, err error) {
	for call := range distinct(texts) {
		for i := range call.results {
			call.results[i].Err = err
		}
		call.done(call.results)
	}
}

// distinct returns the calls of a map that holds each once per text.
func distinct(texts map[string]*textCall) map[*textCall]struct{} {
	calls := make(map[*textCall]struct{}, len(texts))
	for _, call := range texts {
		calls[call] = struct{}{}
	}
	return calls
}

// SendText sends one text and waits until the server has stored it. After an error that is not an *Error the outcome is
// unknown: send a Draft with the same unique id again, or use a Session, which does.
func (c *Conn) SendText(ctx context.Context, to To, text string) (Sent, error) {
	sent, err := c.SendTexts(ctx, to, NewDraft(text))
	if err != nil {
		return Sent{}, err
	}
	return sent[0], sent[0].Err
}

// SendTexts sends texts to one destination, in order, and waits for all answers. Each result says what became of its
// draft. The error is not nil if a draft may not be sent, and then none was, or if ctx or the connection ended before
// all were answered; the results not known then carry that error.
func (c *Conn) SendTexts(ctx context.Context, to To, drafts ...Draft) ([]Sent, error) {
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	batches, err := c.batches(drafts)
	if err != nil {
		return nil, err
	}
	answers := make(chan []Sent, len(batches))
	results := make(map[string]Sent, len(drafts))
	posted := 0
	for ; posted < len(batches); posted++ {
		if err = c.post(ctx, to, batches[posted], func(s []Sent) { answers <- s }); err != nil {
			break
		}
	}
wait:
	for range posted {
		select {
		case part := <-answers:
			for _, s := range part {
				results[s.UniqueID] = s
			}
		case <-ctx.Done():
			if err == nil {
				err = fmt.Errorf("send: %w", contextError(ctx))
			}
			break wait
		}
	}
	out := make([]Sent, 0, len(drafts))
	for _, b := range batches {
		for _, d := range b.drafts {
			s, ok := results[d.UniqueID]
			if !ok {
				s = Sent{UniqueID: d.UniqueID, Err: err}
			}
			out = append(out, s)
		}
	}
	return out, err
}

// Post sends drafts without waiting for the answer, which done gets exactly once, in the order of the drafts, unless
// Post returns an error. It waits for a place in the window. The drafts must fit one request: at most Window and 64 of
// them, together below 16 KiB as JSON; a single draft always does. done runs on a goroutine of the connection, which
// reads nothing meanwhile, so it must not wait for anything the connection brings.
func (c *Conn) Post(ctx context.Context, to To, drafts []Draft, done func([]Sent)) error {
	batches, err := c.batches(drafts)
	if err != nil {
		return err
	}
	if len(batches) != 1 {
		return fmt.Errorf("client: %d texts do not fit one request", len(drafts))
	}
	return c.post(ctx, to, batches[0], done)
}

func (c *Conn) post(ctx context.Context, to To, b *batch, done func([]Sent)) error {
	if to.ThreadID == 0 && c.threadOf(to.UID) == 0 {
		// Known now, or the server refuses the text in its own words. Texts that name their thread and texts that do not
		// go different ways in the server, so the way must not change while some are under way.
		if _, err := c.OpenThread(ctx, to.UID); err != nil && CodeOf(err) == CodeOK {
			return fmt.Errorf("send: %w", err)
		}
	}
	if err := c.window.acquire(ctx, len(b.drafts), len(b.body)); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	if err := c.postBatch(to, b, done); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	return nil
}

// batches packs drafts into as few requests as they fit, in order, and gives a unique id to those without.
func (c *Conn) batches(drafts []Draft) ([]*batch, error) {
	var out []*batch
	for _, d := range drafts {
		if d.UniqueID == "" {
			d.UniqueID = NewDraft("").UniqueID
		}
		element, err := encodedText(d)
		if err != nil {
			return nil, err
		}
		if len(out) == 0 || !out[len(out)-1].add(d, element, c.maxTexts()) {
			b := new(batch)
			b.add(d, element, c.maxTexts())
			out = append(out, b)
		}
	}
	return out, nil
}
