//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"parley/internal/rpc"
	"parley/kitex_gen/message"
	"parley/kitex_gen/message/chatservice"
	"parley/kitex_gen/message/nodeservice"
	"parley/kitex_gen/message/statusservice"
	"parley/kitex_gen/message/varifyservice"
)

// strangersCall implements bar S9.
func strangersCall(ctx context.Context, w *World, r *Report) error {
	l, err := w.Start(ctx, standard)
	if err != nil {
		return err
	}
	uid, err := l.users(ctx, 1)
	if err != nil {
		return err
	}
	calls, accepted := int64(0), int64(0)
	for _, auth := range []*rpc.Auth{nil, rpc.NewAuth("another secret, long enough to be one")} {
		for _, grpc := range []bool{false, true} {
			at := func(addr string) *rpc.Client {
				return rpc.NewClient(rpc.ClientConfig{Auth: auth, GRPC: grpc, Timeout: 10 * time.Second}, addr)
			}
			try := func(addr string, call func(c *rpc.Client) error) {
				c := at(addr)
				defer c.Close()
				calls++
				if err := call(c); !rpc.IsUnauthenticated(err) {
					w.Logf("%s: %v", addr, err)
					accepted++
				}
			}
			try(l.StatusAddr(0), func(c *rpc.Client) error {
				s, err := statusservice.NewClient("statusnode", c.Options()...)
				if err == nil {
					_, err = s.GetChatServer(ctx, &message.GetChatServerReq{Uid: uid})
				}
				return err
			})
			try(l.Gate[0].RPCAddr(), func(c *rpc.Client) error {
				s, err := varifyservice.NewClient("gatenode", c.Options()...)
				if err == nil {
					_, err = s.GetVarifyCode(ctx, &message.GetVarifyReq{Email: "x@chaos.example"})
				}
				return err
			})
			for _, n := range l.Chat {
				try(n.RPCAddr(), func(c *rpc.Client) error {
					s, err := chatservice.NewClient("chatnode", c.Options()...)
					if err == nil {
						_, err = s.NotifyKickUser(ctx, &message.KickUserReq{Uid: uid})
					}
					return err
				})
				try(n.RPCAddr(), func(c *rpc.Client) error {
					s, err := nodeservice.NewClient("chatnode", c.Options()...)
					if err == nil {
						_, err = s.Deliver(ctx, &message.DeliverReq{From: "stranger"})
					}
					return err
				})
			}
		}
	}
	r.Note("calls", calls)
	r.Zero("not refused for their signature", accepted)
	return nil
}

// recorder forwards connections and records what clients send.
type recorder struct {
	ln net.Listener
	wg sync.WaitGroup

	mu   sync.Mutex // guards said
	said [][]byte
}

func record(target string) (*recorder, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &recorder{ln: ln}
	p.wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return // closed
			}
			p.wg.Go(func() { p.serve(c, target) })
		}
	})
	return p, nil
}

func (p *recorder) serve(c net.Conn, target string) {
	defer c.Close()
	s, err := net.DialTimeout("tcp", target, 5*time.Second)
	if err != nil {
		return
	}
	defer s.Close()
	var back sync.WaitGroup
	back.Go(func() {
		_, _ = io.Copy(c, s) // until either side closes
		_ = c.Close()        // ends the loop below
	})
	var all []byte
	buf := make([]byte, 16<<10)
	for {
		n, err := c.Read(buf)
		all = append(all, buf[:n]...)
		if n > 0 {
			if _, err := s.Write(buf[:n]); err != nil {
				break
			}
		}
		p.mu.Lock()
		p.said = append(p.said, bytes.Clone(all))
		p.mu.Unlock()
		if err != nil {
			break
		}
	}
	_ = s.Close() // ends the copy
	back.Wait()
}

// replayRPC implements bar S18.
func replayRPC(ctx context.Context, w *World, r *Report) error {
	l, err := w.Start(ctx, Layout{Chat: 1, Status: 2, Gate: 1})
	if err != nil {
		return err
	}
	rec, err := record(l.StatusAddr(0))
	if err != nil {
		return err
	}
	defer func() {
		_ = rec.ln.Close() // nothing else uses it
	}()
	first, err := l.users(ctx, 2)
	if err != nil {
		return err
	}
	// A caller with the secret, as the gate has it, calls through the recorded connection.
	c := rpc.NewClient(rpc.ClientConfig{Auth: l.auth, Timeout: 5 * time.Second}, rec.ln.Addr().String())
	defer c.Close()
	s, err := statusservice.NewClient("statusnode", c.Options()...)
	if err != nil {
		return err
	}
	rsp, callErr := s.GetChatServer(ctx, &message.GetChatServerReq{Uid: first})
	if callErr != nil {
		return fmt.Errorf("the call through the recorder: %v, %w", rsp, callErr)
	}
	tokens := func(uid int32) (int, error) {
		keys, err := l.rdb.Keys(ctx, fmt.Sprintf("utoken_%d:*", uid)).Result()
		return len(keys), err
	}
	rec.mu.Lock()
	said := slices.Clone(rec.said)
	rec.mu.Unlock()
	if len(said) == 0 {
		return errors.New("nothing was recorded")
	}
	before := [2]int{}
	for i := range before {
		if before[i], err = tokens(first + int32(i)); err != nil {
			return err
		}
	}
	play := func(addr string, b []byte) {
		conn, err := net.DialTimeout("tcp", addr, 2*time.Second)
		if err != nil {
			return
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(time.Second))
		_, _ = conn.Write(b)                                    // Redis shows whether it was accepted
		_, _ = io.Copy(io.Discard, io.LimitReader(conn, 1<<20)) // the answer, or the end
	}
	whole := said[len(said)-1]
	replays := 0
	for _, b := range [][]byte{whole, swapUID(whole, first, first+1)} {
		for i := range l.Status {
			play(l.StatusAddr(i), b)
			replays++
		}
	}
	if err := l.Status[0].Restart(ctx); err != nil {
		return err
	}
	for _, b := range [][]byte{whole, swapUID(whole, first, first+1)} {
		play(l.StatusAddr(0), b)
		replays++
	}
	made := int64(0)
	for i := range before {
		n, err := tokens(first + int32(i))
		if err != nil {
			return err
		}
		made += int64(n - before[i])
	}
	r.Note("replays", replays)
	r.Note("bytes recorded", len(whole))
	r.Zero("tokens made", made)
	return nil
}

// swapUID replaces a uid by another in a message. Both take three bytes when encoded.
func swapUID(b []byte, from, to int32) []byte {
	varint := func(v int32) []byte {
		var out []byte
		for u := uint32(v); ; u >>= 7 {
			if u < 0x80 {
				return append(out, byte(u))
			}
			out = append(out, byte(u)|0x80)
		}
	}
	return bytes.ReplaceAll(b, varint(from), varint(to))
}
