//go:build !linux

package engine

import (
	"context"
	"time"
)

var began = time.Now()

// Clock returns the nanoseconds since the process began, monotonic.
func Clock() int64 { return int64(time.Since(began)) }

// ClockAt returns the value of Clock at a wall-clock time.
func ClockAt(t time.Time) int64 { return int64(t.Sub(began)) }

// Loop requires Linux; on other systems New never returns one.
type Loop struct{}

// Conn is a connection of a Loop.
type Conn struct{ Tag int }

// New returns ErrUnsupported.
func New(Handler, Options) (*Loop, error) { return nil, ErrUnsupported }

// The methods exist so that callers compile. They cannot be called, because there is no Loop.

func (l *Loop) Do(func()) bool            { return false }
func (l *Loop) Now() int64                { return 0 }
func (l *Loop) Open() int                 { return 0 }
func (l *Loop) Run(context.Context) error { return ErrUnsupported }
func (l *Loop) Dial(Target, int) *Conn    { return nil }
func (c *Conn) Send([]byte)               {}
func (c *Conn) Mute()                     {}
func (c *Conn) Close(bool)                {}
