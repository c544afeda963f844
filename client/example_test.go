package client_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"parley/client"
)

// The address of a gate; the tests serve one. With `make run` it is http://127.0.0.1:8080.
func gateAddress() string { return client.DemoGate }

// One connection: log in, send a text, read the thread.
func Example() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	gate, err := client.NewGate(gateAddress())
	if err != nil {
		log.Fatal(err)
	}
	ticket, err := gate.Login(ctx, "alice@example.com", "secret1")
	if err != nil {
		log.Fatal(err)
	}
	conn, err := client.Dial(ctx, ticket, client.Options{Client: "example/1"})
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()

	bob := conn.Friends()[0]
	sent, err := conn.SendText(ctx, client.User(bob.UID), "how are you?")
	if err != nil {
		log.Fatal(err)
	}
	for m, err := range conn.Messages(ctx, sent.ThreadID, 0) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%d: %s\n", m.ID, m.Text)
	}
	// Output:
	// 1: hello alice
	// 2: hi bob
	// 3: how are you?
}

// Two users talk. Each text arrives once and in order whatever happens to the connections below.
func ExampleSession() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	gate, err := client.NewGate(gateAddress())
	if err != nil {
		log.Fatal(err)
	}
	login := func(email string) *client.Session {
		s, err := client.Open(ctx, client.SessionOptions{Gate: gate, Email: email, Password: "secret1"})
		if err != nil {
			log.Fatal(err)
		}
		return s
	}
	alice, bob := login("alice@example.com"), login("bob@example.com")
	defer alice.Close()
	defer bob.Close()

	// Post returns at once; the texts go out in order and are sent again until a server has stored them.
	for _, text := range []string{"one", "two", "three"} {
		if _, err := alice.Post(ctx, client.User(bob.Profile().UID), client.NewDraft(text)); err != nil {
			log.Fatal(err)
		}
	}
	if err := alice.Flush(ctx); err != nil {
		log.Fatal(err)
	}
	n := 0
	for ev := range bob.Events(ctx) {
		if texts, ok := ev.(client.Texts); ok {
			for _, m := range texts.Messages {
				fmt.Println(m.Text)
				n++
			}
		}
		if n == 3 {
			break
		}
	}
	// Output:
	// one
	// two
	// three
}

// A program that was away continues where it stopped.
func ExampleSession_Cursors() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	gate, err := client.NewGate(gateAddress())
	if err != nil {
		log.Fatal(err)
	}
	options := client.SessionOptions{Gate: gate, Email: "bob@example.com", Password: "secret1"}
	// What an earlier run saved: the first message was dealt with.
	options.Cursors = []client.Cursor{{ThreadID: 1, LastID: 1}}
	s, err := client.Open(ctx, options)
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()
	for ev := range s.Events(ctx) {
		if texts, ok := ev.(client.Texts); ok {
			fmt.Println("missed:", texts.Messages[0].Text)
			break
		}
	}
	saved := s.Cursors()
	fmt.Println("more than one message seen:", saved[0].LastID > 1)
	// Output:
	// missed: hi bob
	// more than one message seen: true
}

// Without a Session: a text is sent again under the same unique id until the answer is known.
func ExampleConn_SendTexts() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	gate, err := client.NewGate(gateAddress())
	if err != nil {
		log.Fatal(err)
	}
	draft := client.NewDraft("exactly once")
	send := func() (client.Sent, error) {
		ticket, err := gate.Login(ctx, "alice@example.com", "secret1")
		if err != nil {
			return client.Sent{}, err
		}
		conn, err := client.Dial(ctx, ticket, client.Options{})
		if err != nil {
			return client.Sent{}, err
		}
		defer conn.Close()
		sent, err := conn.SendTexts(ctx, client.User(2), draft)
		if err != nil {
			return client.Sent{}, err
		}
		return sent[0], sent[0].Err
	}
	first, err := send()
	for client.Advise(err) == client.Retry {
		time.Sleep(client.RetryAfter(err) + 100*time.Millisecond)
		first, err = send()
	}
	if err != nil {
		log.Fatal(err)
	}
	again, err := send() // as if the first answer had been lost
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("the same message:", first.MessageID == again.MessageID)
	// Output: the same message: true
}

// What to do about an error.
func ExampleAdvise() {
	err := fmt.Errorf("login: %w", &client.Error{Op: "login", Code: client.CodeDraining, RetryAfter: time.Second, To: "10.0.0.2:8090"})
	fmt.Println(client.Advise(err), "after", client.RetryAfter(err))
	if e, ok := errors.AsType[*client.Error](err); ok {
		fmt.Println("at", e.To)
	}
	fmt.Println(client.Advise(&client.Error{Code: client.CodeTokenInvalid}))
	fmt.Println(client.Advise(&client.Error{Code: client.CodePasswdInvalid}))
	// Output:
	// retry after 1s
	// at 10.0.0.2:8090
	// log in again
	// give up
}
