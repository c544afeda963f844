package main

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/client"
)

// C4: the end of input must not wait for texts that went with the old data.
func TestReplacedDataIsToldAndNothingOfItWaitedFor(t *testing.T) {
	var out, errs bytes.Buffer
	sh := &shared{print: &printer{out: &out, err: &errs, now: time.Now}}
	o := &outbox{shared: sh, mine: map[string]bool{"u": true}, want: map[int64]int64{7: 5}, moved: make(chan struct{})}
	talk := &talk{shared: sh, outbox: o, directory: newDirectory(sh), reading: newReading(sh, nil, nil)}
	moved := o.moved
	talk.event(client.DataReplaced{})
	require.Contains(t, errs.String(), "the server's data was replaced")
	require.Empty(t, o.mine)
	require.Empty(t, o.want)
	require.NotPanics(t, func() { <-moved })
	talk.event(client.DataReplaced{ThreadID: 7, LastID: 3})
	require.Contains(t, errs.String(), "conversation 7 ends at text 3 now")
}
