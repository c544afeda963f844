// Package client is the Go client of a Parley cluster: register, log in, chat, read history. It speaks Parley's native
// variant of the protocol, which docs/PROTOCOL.md describes.
//
// There are three layers. A [Gate] does accounts and logins over HTTP; its Login gives a [Ticket]. [Dial] turns a ticket
// into a [Conn], one connection to one chat node, with every request the protocol has. [Open] starts a [Session], which
// fits most programs: it stays logged in through lost connections and restarted nodes, resends unanswered texts, and
// delivers each text of each thread once and in order.
//
// The module has no public address yet. From your own module, beside a clone of it:
//
//	go mod edit -require parley@v0.1.0 -replace parley=../parley
//	go mod tidy
//
// A complete program that sends a line and prints incoming texts until it is interrupted:
//
//	package main
//
//	import (
//		"context"
//		"fmt"
//		"log"
//		"os"
//		"os/signal"
//
//		"parley/client"
//	)
//
//	func main() {
//		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
//		defer stop()
//		gate, err := client.NewGate("http://127.0.0.1:8080")
//		if err != nil {
//			log.Fatal(err)
//		}
//		s, err := client.Open(ctx, client.SessionOptions{Gate: gate, Email: os.Args[1], Password: os.Args[2]})
//		if err != nil {
//			log.Fatal(err)
//		}
//		defer s.Close()
//		for _, friend := range s.Friends() {
//			if _, err := s.SendText(ctx, client.User(friend.UID), "hello, "+friend.Name); err != nil {
//				log.Print(err)
//			}
//		}
//		for ev := range s.Events(ctx) {
//			if texts, ok := ev.(client.Texts); ok {
//				for _, m := range texts.Messages {
//					if m.Kind == client.KindText {
//						fmt.Printf("%s %d: %s\n", m.Time.Local().Format("15:04"), m.Sender, m.Text)
//					}
//				}
//			}
//		}
//	}
//
// # Errors
//
// A refusal by a server is an [*Error] with a [Code]. For any error, [Advise] says whether to retry, to log in again or
// to give up, and [RetryAfter] how long to wait first.
//
// # Guarantees
//
// A [Sent] without an error is stored, for good. A draft may be sent any number of times under one unique id and is
// stored once. Ids of messages count from 1 without holes in each thread, and are the same for all members. A program
// that keeps the id of the last message it has processed can continue there. docs/GUARANTEES.md lists the guarantees of
// the cluster.
//
// # Groups
//
// A group is a thread with any number of members, made by CreateGroup and written to by InThread. What changes in it, such
// as a member that joins, comes as a [Message] of [KindEvent] among the texts, in the same order for all members. A user
// receives what is stored from its joining to its leaving. Requests about groups fail with [ErrNoGroups] on servers without
// them.
//
// # Slow consumers
//
// All queues are bounded. A Conn queues events for Next up to Options.EventBytes; beyond that texts are dropped
// and a [Gap] says from where to read the history, so that nothing is lost unnoticed. A Session reads the history
// by itself: a program that takes events late still gets all texts.
package client
