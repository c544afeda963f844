package e2e

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/client"
	"parley/lab/launch"
)

func TestTextIsCommittedBeforeItsAckAndCrossesNodes(t *testing.T) {
	w := sharedCluster(t)
	ann, bob, thread := w.pair(t)
	a, b := w.login(t, ann, 0), w.login(t, bob, 1)
	for i := range 30 {
		text := fmt.Sprintf("text %d", i)
		sent, err := say(t.Context(), a, client.User(bob), client.NewDraft(text))
		require.NoError(t, err)
		var content string
		var sender int32
		err = w.db.QueryRowContext(t.Context(), "SELECT content, sender_id FROM chat_message WHERE thread_id = ? AND seq = ? AND unique_id = ?",
			sent.ThreadID, sent.MessageID, sent.UniqueID).Scan(&content, &sender)
		require.NoError(t, err, "the row of an acknowledged text")
		require.Equal(t, text, content)
		require.Equal(t, ann, sender)
		require.Equal(t, thread, sent.ThreadID)
		require.EqualValues(t, i+1, sent.MessageID, "numbers are dense")
		require.Equal(t, sent.MessageID, awaitText(t, b, text).ID)
	}
}

func TestResendIsStoredOnce(t *testing.T) {
	w := sharedCluster(t)
	ann, bob, thread := w.pair(t)
	d := client.NewDraft("once")
	var first client.Sent
	for node := range 3 { // on whatever node the sender is
		a := w.login(t, ann, node)
		sent, err := say(t.Context(), a, client.User(bob), d)
		require.NoError(t, err)
		if node == 0 {
			first = sent
		}
		require.Equal(t, first, sent)
	}
	require.Equal(t, map[int64]string{1: "once"}, w.stored(t, thread))
}

func TestNoAckWhileTheDatabaseStandsStill(t *testing.T) {
	w := ownCluster(t, launch.Options{Chat: 2})
	ann, bob, thread := w.pair(t)
	a, b := w.login(t, ann, 0), w.login(t, bob, 1)
	exchange(t, a, b)
	require.NoError(t, w.MariaDB.Pause())
	d := client.NewDraft("held up")
	began := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	sent, err := a.SendTexts(ctx, client.User(bob), d)
	took := time.Since(began)
	require.NoError(t, w.MariaDB.Resume())
	require.NoError(t, err, "an answer comes")
	require.Contains(t, []client.Code{client.CodeUnavailable, client.CodeBusy}, client.CodeOf(sent[0].Err), "%v", sent[0].Err)
	require.Zero(t, sent[0].MessageID)
	require.Less(t, took, slack*5*time.Second)

	eventually(t, patience, "the text to be stored after all", func() (bool, string) {
		sent, err = a.SendTexts(t.Context(), client.User(bob), d)
		require.NoError(t, err)
		return sent[0].Err == nil, fmt.Sprint(sent[0].Err)
	})
	again, err := a.SendTexts(t.Context(), client.User(bob), d)
	require.NoError(t, err)
	require.Equal(t, sent, again)
	awaitText(t, b, "held up")
	rows := w.stored(t, thread)
	require.Len(t, rows, 3, "two of the exchange, and one: %v", rows)
	require.Equal(t, "held up", rows[sent[0].MessageID])
}

// A receiving node is killed during a stream of texts: no acknowledged text is lost, duplicated or out of order.
func TestKilledNodeLosesNothingThatWasAcknowledged(t *testing.T) {
	w := ownCluster(t, launch.Options{Chat: 2, Status: 1, Gate: 1})
	ann, bob, thread := w.pair(t)
	const texts, killAt = 1500, 400
	sender, err := client.Open(t.Context(), client.SessionOptions{Ticket: w.ticket(t, ann, 0)})
	require.NoError(t, err)
	defer sender.Close()
	receiver, err := client.Open(t.Context(), client.SessionOptions{
		Ticket: w.ticket(t, bob, 1), Gate: w.gate, Email: email(bob), Password: password(bob),
		Nodes: []string{w.Chat[0].Addr(), w.Chat[1].Addr()}, BackoffBase: 50 * time.Millisecond, BackoffLimit: time.Second,
	})
	require.NoError(t, err)
	defer receiver.Close()
	require.Equal(t, "chat2", receiver.Node())

	// The sender's events are not read, as for a client that only sends.
	acked := make(map[int64]string)
	var wg sync.WaitGroup
	killed := make(chan struct{})
	wg.Go(func() {
		<-killed
		if err := w.Chat[1].Kill(); err != nil {
			t.Error(err)
		}
	})
	for i := range texts {
		text := fmt.Sprintf("%d %s", i, strings.Repeat("x", i%200))
		if i%8 != 0 { // mostly without waiting
			p, err := sender.Post(t.Context(), client.User(bob), client.NewDraft(text))
			require.NoError(t, err)
			wg.Go(func() {
				if _, err := p.Wait(t.Context()); err != nil {
					t.Error(err)
				}
			})
		} else {
			_, err := sender.SendText(t.Context(), client.User(bob), text)
			require.NoError(t, err)
		}
		acked[int64(i+1)] = text
		if i == killAt {
			close(killed)
		}
	}
	wg.Wait()
	require.Equal(t, acked, w.stored(t, thread), "all in SQL, in the order of sending")

	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	got, next := make(map[int64]string), int64(1)
	for len(got) < texts {
		ev, err := receiver.Next(ctx)
		require.NoError(t, err, "after %d texts", len(got))
		if batch, ok := ev.(client.Texts); ok {
			for _, m := range batch.Messages {
				require.Equal(t, next, m.ID, "no gap, no double")
				got[m.ID] = m.Text
				next++
			}
		}
	}
	require.Equal(t, acked, got)
	require.Equal(t, "chat1", receiver.Node())

	// A client without any state reads the same.
	c := w.login(t, bob, 0, client.Options{Device: "other"})
	got = make(map[int64]string)
	for m, err := range c.Messages(ctx, thread, 0) {
		require.NoError(t, err)
		got[m.ID] = m.Text
	}
	require.Equal(t, acked, got)
}

// The same when the sender's node dies: what it acknowledged is stored, and what it did not answer is stored once
// when the client repeats it.
func TestSenderOnAKilledNodeSendsAgainWithoutDoubles(t *testing.T) {
	w := ownCluster(t, launch.Options{Chat: 2})
	ann, bob, thread := w.pair(t)
	sender, err := client.Open(t.Context(), client.SessionOptions{
		Ticket: w.ticket(t, ann, 0), Nodes: []string{w.Chat[1].Addr()}, BackoffBase: 50 * time.Millisecond, BackoffLimit: time.Second,
	})
	require.NoError(t, err)
	defer sender.Close()
	b := w.login(t, bob, 1)
	const texts = 800
	var all []*client.Posted
	for i := range texts {
		p, err := sender.Post(t.Context(), client.User(bob), client.NewDraft(fmt.Sprint(i)))
		require.NoError(t, err)
		all = append(all, p)
		if i == texts/2 {
			require.NoError(t, w.Chat[0].Kill())
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	for i, p := range all {
		sent, err := p.Wait(ctx)
		require.NoError(t, err)
		require.EqualValues(t, i+1, sent.MessageID, "stored in the order of sending")
	}
	require.Len(t, w.stored(t, thread), texts)
	awaitText(t, b, fmt.Sprint(texts-1))
}
