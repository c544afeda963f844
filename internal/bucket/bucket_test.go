package bucket

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestABucketFillsAndBounds(t *testing.T) {
	now := time.Now()
	var b Bucket
	require.True(t, b.Take(now, 10, 5, 10))
	require.False(t, b.Take(now, 1, 5, 10), "empty")
	require.False(t, b.Take(now.Add(-time.Hour), 1, 5, 10), "the clock was set back")
	b = Bucket{}
	require.True(t, b.Take(now, 10, 5, 10))
	require.True(t, b.Take(now.Add(time.Second), 5, 5, 10))
	require.False(t, b.Take(now.Add(time.Second), 1, 5, 10))
	require.True(t, b.Full(now.Add(time.Hour), 5, 10), fmt.Sprint(b))
	b.Set(now, 0)
	require.False(t, b.Take(now, 1, 5, 10))
	require.InDelta(t, 5, b.Left(now.Add(time.Second), 5, 10), 0.01)
}
