package recent

import (
	"maps"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTheLatestAreKept(t *testing.T) {
	m := New[int, string](3)
	_, ok := m.Get(1)
	require.False(t, ok)
	m.Put(0, "used")
	for i := 1; i < 100; i++ {
		m.Put(i, "new")
		v, ok := m.Get(0)
		require.True(t, ok)
		require.Equal(t, "used", v)
		require.LessOrEqual(t, m.Len(), 6)
		_, ok = m.Get(i - 1)
		require.True(t, ok, "one of the last three")
	}
	_, ok = m.Get(50)
	require.False(t, ok)
}

func TestTheLatestValueCounts(t *testing.T) {
	m := New[int, int](2)
	m.Put(1, 10)
	m.Turn()
	m.Put(1, 11)
	v, _ := m.Get(1)
	require.Equal(t, 11, v)
	m.Turn()
	v, _ = m.Get(1)
	require.Equal(t, 11, v)
	m.Delete(1)
	_, ok := m.Get(1)
	require.False(t, ok)
}

func TestWhatIsNotUsedIsForgottenAfterTwoTurns(t *testing.T) {
	m := New[int, int](10)
	m.Put(1, 10)
	m.Turn()
	m.Turn()
	_, ok := m.Get(1)
	require.False(t, ok)
}

func TestAllEntriesAreSeenOnce(t *testing.T) {
	m := New[int, int](10)
	m.Put(1, 10)
	m.Put(2, 20)
	m.Turn()
	m.Put(1, 11)
	m.Put(3, 30)
	require.Equal(t, map[int]int{1: 11, 2: 20, 3: 30}, maps.Collect(m.All()))
	for k := range m.All() {
		m.Delete(k)
	}
	require.Zero(t, m.Len())
	m.Put(4, 40)
	for range m.All() {
		break
	}
}
