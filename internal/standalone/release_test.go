package standalone

import (
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"parley/client"
)

// A standalone opens what release 0.1.0 left: users log in with their passwords, see their history, and go on, also with what is newer
// than the data. That clients without today's capabilities are served as before, lab/conform checks.
func TestDataOfTheReleaseBefore(t *testing.T) {
	o := LocalOptions()
	o.Data = t.TempDir()
	unpack(t, filepath.Join("testdata", "release-0.1.0", "parley.db.gz"), filepath.Join(o.Data, "parley.db"))
	c, err := Start(t.Context(), o)
	require.NoError(t, err)
	defer func() { require.NoError(t, c.Close()) }()
	g, err := client.NewGate(c.GateURL())
	require.NoError(t, err)
	var conns [2]*client.Conn
	var threads []client.Thread
	for i, u := range Demo {
		ticket, err := g.Login(t.Context(), u.Email, u.Password)
		require.NoError(t, err)
		conns[i], err = client.Dial(t.Context(), ticket, client.Options{})
		require.NoError(t, err)
		defer conns[i].Close()
		threads, err = conns[i].Threads(t.Context())
		require.NoError(t, err)
		require.Len(t, threads, 1)
		require.EqualValues(t, 12, threads[0].LastID)
	}
	id := threads[0].ID
	history := func(conn *client.Conn) (texts []string) {
		for m, err := range conn.Messages(t.Context(), id, 0) {
			require.NoError(t, err)
			require.EqualValues(t, len(texts)+1, m.ID)
			require.Equal(t, m.Hidden, m.Time.IsZero())
			texts = append(texts, m.Text)
		}
		return texts
	}
	var want []string
	for i := range 12 {
		want = append(want, fmt.Sprintf("text %d of 0.1.0 \"引号\" 😀", i+1))
	}
	require.Equal(t, want, history(conns[0]))
	require.Equal(t, want, history(conns[1]))

	// What is newer works on what is older.
	sent, err := conns[0].SendText(t.Context(), client.InThread(id), "and on")
	require.NoError(t, err)
	require.EqualValues(t, 13, sent.MessageID)
	require.NoError(t, conns[1].Hide(t.Context(), id, 1))
	mark, err := conns[1].Mark(t.Context(), id, 12, 13)
	require.NoError(t, err)
	require.EqualValues(t, 12, mark.Read)
	require.Equal(t, client.CodeNotAllowed, client.CodeOf(conns[0].Recall(t.Context(), id, 1)), "it is too old")
	made, err := conns[0].CreateGroup(t.Context(), client.GroupDraft{Name: "new", Members: []int32{conns[1].Profile().UID}})
	require.NoError(t, err)
	require.NotZero(t, made.ThreadID)
	require.Equal(t, append(want, "and on"), history(conns[0]))
	require.Equal(t, "", history(conns[1])[0], "hidden")
}

func unpack(t *testing.T, from, to string) {
	t.Helper()
	in, err := os.Open(from)
	require.NoError(t, err)
	defer in.Close()
	plain, err := gzip.NewReader(in)
	require.NoError(t, err)
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o600)
	require.NoError(t, err)
	_, err = io.Copy(out, plain)
	require.NoError(t, err)
	require.NoError(t, out.Close())
}
